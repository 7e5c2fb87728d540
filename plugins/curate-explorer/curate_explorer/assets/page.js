// What both pages of the explorer need. Every string of the data reaches a page as text, never as markup.
"use strict";
const Page = (() => {
const $ = (id) => document.getElementById(id);
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}
async function ask(path, body) {
  const options = body === undefined ? {} : {method: "POST", headers: {"content-type": "application/json"}, body: JSON.stringify(body)};
  const response = await fetch(path, options);
  const answer = await response.json().catch(() => ({error: `the server answered ${response.status}`}));
  if (!response.ok) throw new Error(answer.error || `the server answered ${response.status}`);
  return answer;
}
const count = (number) => Number(number).toLocaleString("en");
function later(milliseconds, work) { let timer = 0; return (...given) => { clearTimeout(timer); timer = setTimeout(() => work(...given), milliseconds); }; }
return {$, element, ask, count, later};
})();
