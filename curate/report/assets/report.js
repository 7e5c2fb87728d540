"use strict";
// Draws the charts, turns audio elements into players, and switches tabs and colours. Texts only ever become text nodes
// or canvas text: nothing here makes markup of what comes from the data.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const narrow = () => window.innerWidth < 640;
  const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const count = (value) => Number(value).toLocaleString("en");
  const short = (value) => Number(Number(value).toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 4 });
  const SVG = "http://www.w3.org/2000/svg";

  function base() {
    return {
      animation: false,
      textStyle: { fontFamily: "system-ui, sans-serif", color: colour("soft") },
      aria: { enabled: true },
      tooltip: {
        trigger: "axis",
        confine: true,
        backgroundColor: colour("card"),
        borderColor: colour("line"),
        textStyle: { color: colour("ink"), fontSize: 12 },
        axisPointer: { type: "shadow", shadowStyle: { color: colour("line"), opacity: 0.35 } },
      },
      legend: { top: 0, left: 0, itemWidth: 12, itemHeight: 8, icon: "roundRect", textStyle: { color: colour("soft") } },
      grid: { left: 8, right: 14, top: 34, bottom: 4, containLabel: true },
    };
  }

  function axis(extra) {
    return {
      axisLine: { show: true, lineStyle: { color: colour("line") } },
      axisTick: { show: false },
      axisLabel: { color: colour("soft"), hideOverlap: true },
      splitLine: { lineStyle: { color: colour("line"), type: "dashed" } },
      nameTextStyle: { color: colour("soft") },
      ...extra,
    };
  }

  // A label at the edge of a chart is written inwards, so that it does not sit on the labels of an axis.
  const sideOf = (share) => (share < 0.2 ? "left" : share > 0.8 ? "right" : "center");

  function lines(marks, extra) {
    return {
      symbol: "none",
      silent: true,
      lineStyle: { color: colour("ink"), type: "solid", width: 1.5 },
      label: { color: colour("ink"), formatter: (mark) => mark.name, fontSize: 11 },
      data: marks,
      ...extra,
    };
  }

  const charts = {
    funnel(chart) {
      const room = narrow() ? 92 : 150;
      const series = [
        ["went on", "out", "kept"],
        ["filtered here", "filtered", "filtered"],
        ["quarantined here", "quarantined", "quarantined"],
        ["split into parts", "split", "split"],
      ].filter(([, key]) => key === "out" || chart.stages.some((stage) => stage[key] > 0));
      return {
        ...base(),
        height: chart.stages.length * 38,
        option: {
          legend: { ...base().legend, data: series.map(([name]) => name) },
          yAxis: axis({
            type: "category",
            inverse: true,
            data: chart.stages.map((stage) => stage.name),
            axisLine: { show: false },
            axisLabel: { color: colour("ink"), width: room, overflow: "truncate" },
          }),
          xAxis: axis({ type: "value", minInterval: 1, axisLine: { show: false } }),
          grid: { left: 8, right: narrow() ? 40 : 64, top: 36, bottom: 4, containLabel: true },
          series: [...series.map(([name, key, shade], place) => ({
            name,
            type: "bar",
            stack: "all",
            barWidth: 20,
            itemStyle: { color: colour(shade), borderColor: colour("card"), borderWidth: 1 },
            label: {
              show: key === "out",
              position: "insideLeft",
              color: colour("card"),
              fontWeight: 600,
              formatter: (bar) => (bar.value > 0 ? count(bar.value) : ""),
            },
            data: chart.stages.map((stage) => stage[key]),
            z: 3 - place,
          })), {
            name: "left here",
            type: "bar",
            stack: "all",
            tooltip: { show: false },
            label: {
              show: true,
              position: "right",
              color: colour("soft"),
              formatter: ({ dataIndex }) => {
                const stage = chart.stages[dataIndex];
                const left = stage.filtered + stage.quarantined;
                return left > 0 ? `−${count(left)}` : "";
              },
            },
            data: chart.stages.map(() => 0),
          }],
        },
      };
    },

    histogram(chart) {
      const middle = (place) => chart.start + (place + 0.5) * chart.width;
      const end = chart.start + chart.bars * chart.width;
      const marks = chart.thresholds
        .filter((threshold) => threshold.value >= chart.start && threshold.value <= end)
        .map((threshold, place) => ({
          name: `${threshold.operator} ${short(threshold.value)}`,
          xAxis: threshold.value,
          label: { distance: 4 + 14 * (place % 2), align: sideOf((threshold.value - chart.start) / (end - chart.start)) },
        }));
      return {
        ...base(),
        option: {
          grid: { left: 8, right: 18, top: marks.length > 1 ? 66 : marks.length ? 52 : 34, bottom: 22, containLabel: true },
          tooltip: {
            ...base().tooltip,
            axisPointer: { type: "line", lineStyle: { color: colour("faint") } },
            valueFormatter: count,
          },
          xAxis: axis({
            type: "value",
            min: chart.start,
            max: end,
            splitLine: { show: false },
            name: chart.unit,
            nameLocation: "middle",
            nameGap: 24,
            axisLabel: {
              color: colour("soft"),
              hideOverlap: true,
              formatter: (value) => (chart.beyond && value >= end - 1e-9 ? `${short(value)}+` : short(value)),
            },
            axisPointer: {
              label: {
                formatter: ({ value }) => {
                  const place = Math.min(Math.max(Math.floor((value - chart.start) / chart.width), 0), chart.bars - 1);
                  const from = chart.start + place * chart.width;
                  const last = chart.beyond && place === chart.bars - 1;
                  return last ? `${short(from)} and more` : `${short(from)} to ${short(from + chart.width)}`;
                },
              },
            },
          }),
          yAxis: axis({ type: "value", minInterval: 1, axisLine: { show: false } }),
          series: ["kept", "filtered", "quarantined"]
            .filter((fate) => chart[fate].some((value) => value > 0) || fate === "kept")
            .map((fate, place) => ({
              name: fate,
              type: "bar",
              stack: "all",
              barCategoryGap: "10%",
              itemStyle: { color: colour(fate) },
              data: chart[fate].map((value, bar) => [middle(bar), value]),
              ...(place === 0 && marks.length ? { markLine: lines(marks) } : {}),
            })),
        },
      };
    },

    throughput(chart) {
      const clock = (seconds) => {
        const whole = Math.round(seconds);
        if (whole < 120) return `${short(seconds)} s`;
        return whole < 7200 ? `${short(seconds / 60)} min` : `${short(seconds / 3600)} h`;
      };
      const end = Math.max(...chart.points.map((point) => point.at_s));
      const marks = [
        ...chart.attempts.map((at) => ({ name: "resumed", xAxis: at })),
        ...chart.phases.map((phase) => ({ name: phase.name, xAxis: phase.at })),
      ].map((mark) => ({ ...mark, label: { align: sideOf(mark.xAxis / end) } }));
      return {
        ...base(),
        option: {
          tooltip: { ...base().tooltip, axisPointer: { type: "line" }, valueFormatter: short },
          grid: { left: 8, right: 8, top: marks.length ? 54 : 40, bottom: 4, containLabel: true },
          xAxis: axis({
            type: "value",
            max: "dataMax",
            splitLine: { show: false },
            axisLabel: { color: colour("soft"), hideOverlap: true, alignMaxLabel: "right", formatter: clock },
            axisPointer: { label: { formatter: ({ value }) => clock(value) } },
          }),
          yAxis: [
            axis({ type: "value", axisLine: { show: false } }),
            axis({ type: "value", axisLine: { show: false }, splitLine: { show: false } }),
          ],
          series: [
            { name: "records per second", key: "records_per_s", shade: "accent", yAxisIndex: 0 },
            { name: "times real time", key: "rtfx", shade: "kept", yAxisIndex: 1 },
          ].map((line, place) => ({
            name: line.name,
            type: "line",
            yAxisIndex: line.yAxisIndex,
            showSymbol: chart.points.length < 3,
            step: "start",
            lineStyle: { width: 2, color: colour(line.shade) },
            itemStyle: { color: colour(line.shade) },
            areaStyle: place === 0 ? { color: colour(line.shade), opacity: 0.1 } : undefined,
            data: chart.points.map((point) => [point.at_s, point[line.key]]),
            ...(place === 0 && marks.length
              ? { markLine: lines(marks, { lineStyle: { color: colour("faint"), type: "dashed" } }) }
              : {}),
            ...(place === 0 && chart.loads.length
              ? {
                  markArea: {
                    silent: true,
                    itemStyle: { color: colour("line"), opacity: 0.55 },
                    label: { color: colour("soft"), position: "inside", fontSize: 11, overflow: "truncate" },
                    data: chart.loads.map((load) => [{ name: "loading models", xAxis: load.from }, { xAxis: load.to }]),
                  },
                }
              : {}),
          })),
        },
      };
    },

    shapes(chart) {
      const most = Math.max(...chart.points.map((point) => point[2]));
      return {
        ...base(),
        option: {
          legend: { show: false },
          grid: { left: 8, right: 18, top: 16, bottom: 22, containLabel: true },
          tooltip: {
            ...base().tooltip,
            trigger: "item",
            renderMode: "richText",
            formatter: ({ value }) => `${count(value[2])} of ${count(value[1])} records, up to ${short(value[0])} s`,
          },
          xAxis: axis({ type: "value", name: "seconds", nameLocation: "middle", nameGap: 24, min: 0 }),
          yAxis: axis({ type: "value", minInterval: 1, axisLine: { show: false } }),
          series: [
            {
              name: "batches",
              type: "scatter",
              symbolSize: (value) => 7 + 20 * Math.sqrt(value[2] / most),
              itemStyle: { color: colour("accent"), opacity: 0.65 },
              data: chart.points,
            },
          ],
        },
      };
    },

    bars(chart) {
      const shades = ["accent", "kept", "filtered", "quarantined", "split", "faint"];
      return {
        ...base(),
        option: {
          legend: { ...base().legend, show: chart.series.length > 1 },
          grid: { left: 8, right: 14, top: chart.series.length > 1 ? 40 : 30, bottom: 4, containLabel: true },
          tooltip: { ...base().tooltip, valueFormatter: short },
          xAxis: axis({ type: "category", data: chart.categories }),
          yAxis: axis({ type: "value", name: chart.unit, axisLine: { show: false } }),
          series: chart.series.map((one, place) => ({
            name: one.name,
            type: "bar",
            stack: "all",
            itemStyle: { color: colour(shades[place % shades.length]) },
            data: one.values,
          })),
        },
      };
    },

    scatter(chart) {
      const limits = chart.thresholds.map((limit) => ({
        name: `${limit.operator} ${short(limit.value)}`,
        [limit.axis === "x" ? "xAxis" : "yAxis"]: limit.value,
      }));
      // The limits are inside, even where no record is near.
      const held = (name) => {
        const values = chart.thresholds.filter((limit) => limit.axis === name).map((limit) => limit.value);
        return { min: (of) => Math.min(of.min, ...values), max: (of) => Math.max(of.max, ...values) };
      };
      const named = (of) => (of.unit ? `${of.name}, ${of.unit}` : of.name);
      return {
        ...base(),
        option: {
          grid: { left: 8, right: 60, top: 52, bottom: 26, containLabel: true },
          tooltip: {
            ...base().tooltip,
            trigger: "item",
            formatter: ({ seriesName, value }) => `${seriesName}: ${short(value[0])} ${chart.x.unit}, ${short(value[1])} ${chart.y.unit}`,
          },
          xAxis: axis({ type: "value", scale: true, ...held("x"), name: named(chart.x), nameLocation: "middle", nameGap: 26 }),
          yAxis: axis({
            type: "value",
            scale: true,
            ...held("y"),
            name: named(chart.y),
            nameTextStyle: { color: colour("soft"), align: "left" },
            axisLine: { show: false },
          }),
          series: ["kept", "filtered", "quarantined"]
            .filter((fate) => chart[fate].length > 0)
            .map((fate, place) => ({
              name: fate,
              type: "scatter",
              symbolSize: 6,
              itemStyle: { color: colour(fate), opacity: 0.6 },
              data: chart[fate],
              ...(place === 0 && limits.length ? { markLine: lines(limits) } : {}),
            })),
        },
      };
    },

    lines(chart) {
      const shades = ["accent", "kept", "filtered", "quarantined", "split", "faint"];
      return {
        ...base(),
        option: {
          legend: { ...base().legend, show: chart.series.length > 1 },
          grid: { left: 8, right: 18, top: chart.series.length > 1 ? 52 : 30, bottom: 22, containLabel: true },
          tooltip: { ...base().tooltip, axisPointer: { type: "line" }, valueFormatter: short },
          xAxis: axis({ type: "value", name: chart.x_unit, nameLocation: "middle", nameGap: 24, splitLine: { show: false } }),
          yAxis: axis({ type: "value", name: chart.unit, axisLine: { show: false } }),
          series: chart.series.map((one, place) => ({
            name: one.name,
            type: "line",
            showSymbol: one.points.length < 30,
            lineStyle: { width: 2, color: colour(shades[place % shades.length]) },
            itemStyle: { color: colour(shades[place % shades.length]) },
            data: one.points,
          })),
        },
      };
    },

    stages(chart) {
      return {
        ...base(),
        height: chart.stages.length * 38,
        option: {
          tooltip: { ...base().tooltip, valueFormatter: (value) => `${short(value)} s` },
          yAxis: axis({
            type: "category",
            inverse: true,
            data: chart.stages.map((stage) => stage.name),
            axisLine: { show: false },
            axisLabel: { color: colour("ink"), width: narrow() ? 92 : 130, overflow: "truncate" },
          }),
          xAxis: axis({
            type: "value",
            axisLine: { show: false },
            axisLabel: { color: colour("soft"), hideOverlap: true, formatter: (value) => `${short(value)} s` },
          }),
          series: [
            ["at work", "busy_s", "accent"],
            ["waiting, or others at work", "rest_s", "line"],
          ].map(([name, key, shade]) => ({
            name,
            type: "bar",
            stack: "all",
            barWidth: 18,
            itemStyle: { color: colour(shade) },
            data: chart.stages.map((stage) => stage[key]),
          })),
        },
      };
    },
  };

  const drawn = [];
  function draw() {
    for (const place of document.querySelectorAll("[data-chart]")) {
      const chart = data.charts[Number(place.dataset.chart)];
      const { option, height, ...rest } = charts[chart.kind](chart);
      if (height) place.style.height = `${height + 76}px`;
      const existing = echarts.getInstanceByDom(place);
      const instance = existing || echarts.init(place, null, { renderer: "canvas" });
      if (!existing) drawn.push(instance);
      else instance.resize();
      instance.setOption({ ...rest, ...option }, true);
    }
    root.dataset.drawn = String(drawn.length);
  }

  let waiting = 0;
  window.addEventListener("resize", () => {
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  function isDark() {
    const chosen = root.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    draw();
  });

  for (const tabs of document.querySelectorAll(".tabs")) {
    tabs.hidden = false;
    const buttons = [...tabs.querySelectorAll("button")];
    const choose = (chosen) => {
      for (const button of buttons) {
        button.setAttribute("aria-selected", String(button === chosen));
        button.tabIndex = button === chosen ? 0 : -1;
        document.getElementById(button.getAttribute("aria-controls")).hidden = button !== chosen;
      }
    };
    buttons.forEach((button, place) => {
      button.addEventListener("click", () => choose(button));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        const next = buttons[(place + step + buttons.length) % buttons.length];
        choose(next);
        next.focus();
      });
    });
    choose(buttons.find((button) => button.dataset.first !== undefined) || buttons[0]);
  }

  function icon(path) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(SVG, "path");
    shape.setAttribute("d", path);
    shape.setAttribute("fill", "currentColor");
    svg.append(shape);
    return svg;
  }
  const PLAY = "M8 5v14l11-7z";
  const PAUSE = "M6 5h4v14H6zM14 5h4v14h-4z";

  function wave(peaks) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${peaks.length * 3} 36`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const shape = document.createElementNS(SVG, "path");
    const bars = peaks.map((peak, place) => `M${place * 3 + 0.5} ${18 - 1 - peak * 16}h2v${2 + peak * 32}h-2z`);
    shape.setAttribute("d", bars.join(""));
    shape.setAttribute("fill", "currentColor");
    svg.append(shape);
    return svg;
  }

  let playing = null;
  for (const audio of document.querySelectorAll("audio[data-peaks]")) {
    const length = Number(audio.dataset.length);
    const peaks = [...audio.dataset.peaks].map((digit) => parseInt(digit, 36) / 35);
    const player = document.createElement("div");
    player.className = "player";
    const button = document.createElement("button");
    button.type = "button";
    const place = document.createElement("div");
    place.className = "wave";
    const slider = document.createElement("input");
    slider.type = "range";
    slider.min = "0";
    slider.max = String(length);
    slider.step = "0.01";
    slider.value = "0";
    slider.setAttribute("aria-label", "position in the recording");
    const time = document.createElement("time");
    place.append(wave(peaks), wave(peaks), slider);
    player.append(button, place, time);
    const show = () => {
      const paused = audio.paused;
      button.replaceChildren(icon(paused ? PLAY : PAUSE));
      button.setAttribute("aria-label", paused ? "play" : "pause");
      place.style.setProperty("--played", `${(100 * audio.currentTime) / length}%`);
      slider.value = String(audio.currentTime);
      time.textContent = `${audio.currentTime.toFixed(1)} / ${length.toFixed(1)} s`;
    };
    button.addEventListener("click", () => {
      if (!audio.paused) return audio.pause();
      if (playing && playing !== audio) playing.pause();
      playing = audio;
      return audio.play();
    });
    slider.addEventListener("input", () => {
      audio.currentTime = Number(slider.value);
    });
    for (const event of ["play", "pause", "timeupdate", "seeked", "ended"]) audio.addEventListener(event, show);
    audio.controls = false;
    audio.hidden = true;
    audio.after(player);
    show();
  }

  draw();
})();
