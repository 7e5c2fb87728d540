"""A plugin without packaging: ten lines in a file that the user names."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import cloudpickle
import pytest

from curate.errors import PlanError, PluginError
from curate.plugin import PluginHost
from curate.records import AudioBatch

TEN_LINES = """
from dataclasses import dataclass
from curate.stage_decorator import processing_stage
from curate.stage import RecordStage

@processing_stage(name="upper")
def upper(record: dict):
    "Write the text in capitals."
    return record | {"text": record["text"].upper()}

@dataclass
class Repeat(RecordStage):
    times: int = 2
    def process_record(self, record):
        return record | {"text": record["text"] * self.times}
"""


@pytest.fixture
def write(tmp_path: Path, forget_modules: None):
    def write(code: str, name: str = "my_stages.py") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(textwrap.dedent(code))
        return path

    return write


def test_stages_at_the_top_level_go_by_their_own_names(write) -> None:
    path = write(TEN_LINES)
    host = PluginHost(plugin_files=[path])

    row = host.rows()[-1]
    assert (row.distribution, row.status, row.stages) == (str(path), "active", ("upper", "repeat"))
    assert host.stage("upper").summary == "Write the text in capitals."
    assert host.stage("repeat").summary == ""
    assert host.stage("upper").load().process(AudioBatch([{"text": "hello"}])).data == [{"text": "HELLO"}]
    assert host.stage("repeat").load()(times=3).process(AudioBatch([{"text": "a"}])).data == [{"text": "aaa"}]


def test_only_what_the_file_itself_defines_is_announced(write) -> None:
    code = """
        from curate.stage import ProcessingStage, RecordStage
        class _Private(RecordStage): ...
        class Public(_Private): ...
        Alias = Public
    """

    assert PluginHost(plugin_files=[write(code)]).rows()[-1].stages == ("public",)


def test_a_file_may_answer_hooks_like_any_plugin(write) -> None:
    code = """
        from curate.plugin import ExecutorRef, StageRef, hookimpl
        from curate.stage import RecordStage
        class Loud(RecordStage): ...
        class Quiet(RecordStage): ...
        @hookimpl
        def curate_stages():
            return [StageRef("shout", f"{__name__}:Loud", "Shout")]
        @hookimpl
        def curate_executors():
            return [ExecutorRef("mine", f"{__name__}:Loud", "Mine")]
    """
    host = PluginHost(plugin_files=[write(code)])

    assert host.rows()[-1].stages == ("shout", "quiet")
    assert host.executor("mine").load().__name__ == "Loud"


def test_a_file_is_its_own_owner_in_a_clash(write) -> None:
    path = write("from curate.stage import RecordStage\nclass Merge(RecordStage): ...")
    host = PluginHost(plugin_files=[path])

    with pytest.raises(PluginError, match="announced by 2 plugins"):
        host.stage("merge")
    assert host.stage(f"{path}/merge").load().__name__ == "Merge"


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x = 1\ndef broken(:\n", r"my_stages.py:2: SyntaxError: "),
        ("x = 1\n\nraise RuntimeError('no')\n", r"my_stages.py:3: RuntimeError: no"),
        ("import a_module_nobody_has\n", r"my_stages.py:1: ModuleNotFoundError: .*a_module_nobody_has"),
        ("import sys\nsys.exit('bye')\n", r"my_stages.py:2: SystemExit: bye"),
        ("x = '\x00'\n", r"my_stages.py.*(SyntaxError|ValueError): "),
        (
            "from curate.plugin import hookimpl\n@hookimpl\ndef curate_stages():\n    1 / 0\n",
            r"my_stages.py:4: ZeroDivisionError",
        ),
        ("def curate_stages():\n    return []\n", r"my_stages.py: curate_stages lacks its decorator"),
        (
            "from curate.stage_decorator import processing_stage\n"
            "@processing_stage(name='one')\ndef a(record: dict): ...\n"
            "@processing_stage(name='one')\ndef b(record: dict): ...\n",
            r"my_stages.py: two stages are called 'one': a and b",
        ),
        (
            "from curate import processing_stage\n\n@processing_stage(name='one')\ndef a(record): ...\n",
            r"my_stages.py:\d: .*annotate the parameter",
        ),
    ],
)
def test_a_broken_file_is_an_error_at_once_with_the_line(write, code: str, error: str) -> None:
    with pytest.raises(PluginError, match=error):
        PluginHost(plugin_files=[write(code)])


def test_a_file_that_cannot_be_run_leaves_no_module_behind(write) -> None:
    before = set(sys.modules)

    with pytest.raises(PluginError):
        PluginHost(plugin_files=[write("raise RuntimeError")])

    assert not [name for name in set(sys.modules) - before if name.startswith("curate_plugins_file")]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"nowhere.py: this plugins-file cannot be read: No such file"):
        PluginHost(plugin_files=[tmp_path / "nowhere.py"])


def test_a_file_named_twice_counts_once(write) -> None:
    path = write(TEN_LINES)

    host = PluginHost(plugin_files=[path, path.parent / "." / path.name])

    assert host.stage("upper")
    assert [row.is_file for row in host.rows()].count(True) == 1


def test_two_files_of_one_name_do_not_get_in_each_others_way(write) -> None:
    code = "from curate.stage import RecordStage\nclass {}(RecordStage): ..."
    one, two = write(code.format("One"), "a/stages.py"), write(code.format("Two"), "b/stages.py")

    host = PluginHost(plugin_files=[one, two])

    assert host.stage("one").load().__module__ != host.stage("two").load().__module__


def test_a_file_that_was_edited_is_run_again(write) -> None:
    code = "from curate.stage import RecordStage\nclass Mine(RecordStage):\n    version = {}"
    assert PluginHost(plugin_files=[write(code.format(1))]).stage("mine").load().version == 1
    assert PluginHost(plugin_files=[write(code.format(2))]).stage("mine").load().version == 2


def test_nothing_is_written_beside_the_file(write) -> None:
    path = write(TEN_LINES)
    PluginHost(plugin_files=[path])

    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_its_classes_can_be_pickled_by_value(write, tmp_path: Path) -> None:
    host = PluginHost(plugin_files=[write(TEN_LINES)])
    module = sys.modules[host.rows()[-1].module]
    cloudpickle.register_pickle_by_value(module)
    try:
        stages = [host.stage("repeat").load()(times=2), host.stage("upper").load()]
        (tmp_path / "stages.pickle").write_bytes(cloudpickle.dumps(stages))
    finally:
        cloudpickle.unregister_pickle_by_value(module)

    code = f"""
import pickle
from pathlib import Path
from curate.records import AudioBatch
batch = AudioBatch([{{"text": "ab"}}])
for stage in pickle.loads(Path({str(tmp_path / "stages.pickle")!r}).read_bytes()):
    batch = stage.process(batch)
print(batch.data)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[{'text': 'ABAB'}]"


def test_a_recogniser_of_a_plugins_file_serves_the_stage_asr(tmp_path: Path) -> None:
    import numpy
    import soundfile

    from curate import Pipeline
    from curate.stages import AsrStage, ReadRecords

    (tmp_path / "ears.py").write_text(
        "from curate.models import AudioModel\n"
        "from curate.plugin import RecogniserRef, hookimpl\n"
        "class Ears(AudioModel):\n"
        "    def infer(self, clips): return [{'text': str(len(clip.samples))} for clip in clips]\n"
        "@hookimpl\n"
        "def curate_recognisers():\n"
        "    return [RecogniserRef('ears', f'{__name__}:Ears', 'count samples')]\n"
    )
    soundfile.write(tmp_path / "a.wav", numpy.zeros(1600, dtype="float32") + 0.1, 16000)
    host = PluginHost(plugin_files=[tmp_path / "ears.py"], environment={"CURATE_PLUGINS": ""})
    pipeline = Pipeline("p", [ReadRecords([{"audio_filepath": str(tmp_path / "a.wav")}]), AsrStage("ears")])

    assert [record["pred_text"] for record in pipeline.run(host=host).records()] == ["1600"]
    with pytest.raises(PlanError, match="stage 'asr': unknown recogniser 'ears'"):
        pipeline.plan()
