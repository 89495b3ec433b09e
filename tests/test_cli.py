"""The command line, through real processes: what a person and a script meet."""

import glob
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard

import elman
from elman.cli import build_parser, main
from elman.text.model import TextModel
from elman.text.run import TextRun
from texts import words

SMALL = [
    "--steps",
    "60",
    "--hidden",
    "16",
    "--cell",
    "elman",
    "--optimizer",
    "adamw",
    "--batch",
    "2",
    "--unroll",
    "16",
    "--sample-length",
    "40",
]
COMMANDS = [
    *(
        "demo",
        "train",
        "train text",
        "train series",
        "sample",
        "samples",
        "describe",
        "forecast",
        "evaluate",
        "backtest",
    ),
    *("report", "hello", "info", "launch", "studio", "serve", "export", "import"),
    *(f"inspect {kind}" for kind in ("graph", "memory", "attribution", "units", "surprise", "novelty")),
]
PERSIAN = "سلام دنیا، می‌خواهم این متن بی‌آسیب بماند. گل‌ها در باغ‌اند؛ آب روشن است.\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands run, with a text in it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "words.txt").write_text(words())
    return folder


@pytest.fixture(scope="module")
def trained(home: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
    """`elman train text words.txt … --json` into `home/run`."""
    return run(home, environment, "train", "text", "words.txt", "--run", "run", "--json", *SMALL)


def test_training_prints_one_object_and_says_everything_else_on_standard_error(
    trained: "subprocess.CompletedProcess[bytes]", home: Path
) -> None:
    figures = one_object(trained)
    assert figures.keys() >= {
        "run",
        "bundle",
        "ending",
        "updates",
        "nats_per_character",
        "bits_per_character",
        "baselines",
    }
    assert figures["ending"] == "finished"
    assert figures["updates"] == 60
    assert figures["nats_per_character"] < figures["baselines"]["uniform"]
    said = trained.stderr.decode()
    assert "characters to learn from" in said
    assert "update 60: validation" in said
    assert "--- sample at update 60, validation " in said
    assert sorted(path.name for path in (home / "run").iterdir() if path.name != "lock") == [
        "best.safetensors",
        "checkpoints",
        "config.toml",
        "events.jsonl",
        "report.html",
    ]


@pytest.mark.usefixtures("trained")
def test_every_line_of_the_log_has_a_kind_and_updates_have_iteration_and_losses(home: Path) -> None:
    events = [json.loads(line) for line in (home / "run" / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {event["kind"] for event in events} == {"start", "update", "validation", "sample", "checkpoint", "end"}
    updates = [event for event in events if event["kind"] == "update"]
    assert sum(len(event["loss"]) for event in updates) == 60
    position = 0
    for event in updates:
        assert event["iteration"] == position
        assert all(isinstance(loss, float) for loss in event["loss"])
        position += len(event["loss"])


@pytest.mark.usefixtures("trained")
def test_sampling_streams_the_text_that_the_library_gives_for_the_same_seed(
    home: Path, environment: dict[str, str]
) -> None:
    result = run(
        home,
        environment,
        *["sample", "run", "--prime", "the", "--length", "300", "--seed", "4", "--temperature", "0.8"],
    )
    assert result.returncode == 0, result.stderr
    expected = TextModel.load(home / "run").sample("the", length=300, seed=4, temperature=0.8)
    assert result.stdout.decode() == f"the{expected}\n"
    assert len(expected) == 300
    assert result.stderr == b""


@pytest.mark.usefixtures("trained")
def test_a_bundle_samples_like_its_run_wherever_it_is(home: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "model.safetensors").write_bytes((home / "run" / "best.safetensors").read_bytes())
    assert main(["sample", str(tmp_path / "model.safetensors"), "--seed", "1", "--length", "50"]) == 0
    from_bundle = capsys.readouterr().out
    assert main(["sample", str(home / "run"), "--seed", "1", "--length", "50"]) == 0
    assert capsys.readouterr().out == from_bundle


@pytest.mark.usefixtures("trained")
def test_several_samples_are_numbered_and_differ(home: Path, capsys: Any) -> None:
    assert main(["sample", str(home / "run"), "--samples", "3", "--length", "40", "--seed", "2"]) == 0
    output = capsys.readouterr().out
    assert [line for line in output.splitlines() if line.startswith("---")] == ["--- 1 ---", "--- 2 ---", "--- 3 ---"]
    assert main(["sample", str(home / "run"), "--samples", "3", "--length", "40", "--seed", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [len(text) for text in figures["samples"]] == [40, 40, 40]
    assert len(set(figures["samples"])) == 3


@pytest.mark.usefixtures("trained")
def test_a_sample_ends_before_the_first_stop_string(home: Path, capsys: Any) -> None:
    arguments = ["sample", str(home / "run"), "--length", "200", "--seed", "3"]
    assert main(arguments) == 0
    whole = capsys.readouterr().out.removesuffix("\n")
    stop = whole[50:52]
    assert main([*arguments, "--stop", stop, "--stop", "never written"]) == 0
    assert capsys.readouterr().out == whole[: whole.index(stop)] + "\n"


@pytest.mark.usefixtures("trained")
def test_unknown_characters_of_the_prime_are_named_and_left_out(home: Path, capsys: Any) -> None:
    assert main(["sample", str(home / "run"), "--prime", "the ڑ", "--length", "5", "--seed", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert "U+0691" in captured.err
    json.loads(captured.out)


@pytest.mark.usefixtures("trained")
def test_a_reader_that_goes_away_ends_sampling_quietly(home: Path, environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m elman sample run --length 20000 --seed 1 | head -c 10"
    result = subprocess.run(command, shell=True, cwd=home, env=environment, capture_output=True, timeout=120)
    assert len(result.stdout) == 10
    assert result.stderr == b""


@pytest.mark.usefixtures("trained")
def test_the_timeline_of_samples_is_shown_and_given_as_json(home: Path, capsys: Any) -> None:
    assert main(["samples", str(home / "run"), "--json"]) == 0
    timeline = json.loads(capsys.readouterr().out)["samples"]
    assert [sample["iteration"] for sample in timeline] == [60]
    assert len(timeline[0]["text"]) == 40
    assert main(["samples", str(home / "run")]) == 0
    assert timeline[0]["text"].split("\n")[0] in capsys.readouterr().out


@pytest.mark.usefixtures("trained")
def test_evaluating_a_run_scores_its_held_out_part(home: Path, environment: dict[str, str]) -> None:
    figures = one_object(run(home, environment, "evaluate", "run", "--json"))
    assert figures.keys() >= {"nats_per_character", "bits_per_character", "characters", "baselines"}
    assert figures["nats_per_character"] == pytest.approx(TextRun(home / "run").best, rel=1e-6)
    assert figures["characters"] == len(words()) - int(len(words()) * 0.9)
    assert figures["baselines"]["unigram"] < figures["baselines"]["uniform"]


@pytest.mark.usefixtures("trained")
def test_evaluating_on_an_input_scores_all_of_it(home: Path, capsys: Any) -> None:
    (home / "other.txt").write_text("the cat sat on the mat.\n")
    assert main(["evaluate", str(home / "run"), str(home / "other.txt"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["characters"] == 23, "before the first character there is nothing to predict it from"
    bundle = str(home / "run" / "best.safetensors")
    assert main(["evaluate", bundle, str(home / "other.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nats_per_character"] == figures["nats_per_character"]
    assert main(["evaluate", str(home / "run"), str(home / "other.txt")]) == 0
    assert f"{figures['nats_per_character']:.4f} nats" in capsys.readouterr().out


@pytest.mark.usefixtures("trained")
def test_the_report_is_one_file_that_refers_to_nothing_outside(home: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["report", str(home / "run"), "--output", str(tmp_path / "report.html")]) == 0
    assert str(tmp_path / "report.html") in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page or "<canvas" in page
    assert 'src="http' not in page
    assert 'href="http' not in page


@pytest.mark.usefixtures("trained")
def test_resuming_a_finished_run_gives_its_result_again(
    home: Path, trained: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(home)
    assert main(["train", "--resume", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == one_object(trained)


def test_hello_and_info_give_one_object(home: Path, environment: dict[str, str]) -> None:
    hello = one_object(run(home, environment, "hello", "--json"))
    assert hello["vocabulary"] == ["h", "e", "l", "o"] or sorted(hello["vocabulary"]) == ["e", "h", "l", "o"]
    assert hello["loss_after"] < hello["loss"]
    info = one_object(run(home, environment, "info", "--json"))
    assert info["elman"] == elman.__version__
    assert info.keys() >= {"python", "jax", "device", "cache_folder"}


def test_elman_alone_helps_and_tells_its_version(home: Path, environment: dict[str, str]) -> None:
    alone = run(home, environment)
    assert alone.returncode == 0
    assert b"start here" in alone.stdout
    version = run(home, environment, "--version")
    assert (version.returncode, version.stdout.decode()) == (0, f"elman {elman.__version__}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: elman {command} ")
    assert "--debug" in output


def test_every_command_is_in_the_list_above() -> None:
    actions = build_parser()._subparsers._group_actions  # type: ignore[union-attr]
    assert set(actions[0].choices) == {command.split()[0] for command in COMMANDS}  # type: ignore[arg-type]


@pytest.mark.parametrize("statement", ["import elman", "elman.cli.main(['--help'])", "elman.cli.main([])"])
def test_help_loads_neither_jax_nor_numpy(statement: str, environment: dict[str, str]) -> None:
    code = (
        "import sys, elman, elman.cli\n"
        f"try:\n    {statement}\nexcept SystemExit:\n    pass\n"
        "sys.exit(str(sorted({'jax', 'jaxlib', 'numpy', 'optax', 'equinox', 'matplotlib'} & set(sys.modules))))"
    )
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stderr.strip() == "[]"


def test_a_run_without_a_name_gets_a_folder_in_runs(home: Path, environment: dict[str, str]) -> None:
    result = run(home, environment, "train", "text", "words.txt", "--quiet", *SMALL)
    assert result.returncode == 0, result.stderr
    assert (result.stdout, result.stderr) == (b"", b"")
    (folder,) = glob.glob(str(home / "runs" / "words-*"))
    assert len(TextRun(folder).losses) == 60


def test_standard_input_is_kept_so_that_the_run_can_go_on(
    home: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "piped"
    result = run(home, environment, "train", "text", "-", "--run", str(path), "--json", *SMALL, input=words().encode())
    assert one_object(result)["updates"] == 60
    assert (path / "input.txt").read_text() == words()
    # As after a kill: the last checkpoint is gone, the one before it is where the run goes on.
    (path / "checkpoints" / "000000060.safetensors").unlink()
    resumed = run(tmp_path, environment, "train", "--resume", str(path), "--json")
    assert one_object(resumed)["nats_per_character"] == one_object(result)["nats_per_character"]


def test_packed_files_folders_patterns_and_several_files_are_one_text(
    home: Path, tmp_path: Path, capsys: Any, trained: Any
) -> None:
    text = words().encode()
    folder = tmp_path / "folder"
    folder.mkdir()
    halves = text[: len(text) // 2], text[len(text) // 2 :]
    cut = halves[0].rindex(b"\n") + 1
    (folder / "1.txt").write_bytes(text[:cut])
    (folder / "2.txt").write_bytes(text[cut:])
    (folder / "picture.bin").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "words.txt.gz").write_bytes(gzip.compress(text))
    (tmp_path / "words.txt.zst").write_bytes(zstandard.compress(text))
    expected = TextRun(home / "run").losses
    for number, inputs in enumerate(
        (
            [tmp_path / "words.txt.gz"],
            [tmp_path / "words.txt.zst"],
            [folder],
            [folder / "*.txt"],
            [folder / "1.txt", folder / "2.txt"],
        )
    ):
        path = tmp_path / f"run{number}"
        assert main(["train", "text", *map(str, inputs), "--run", str(path), "--quiet", *SMALL]) == 0
        assert TextRun(path).losses == expected, inputs
    assert capsys.readouterr().out == ""


def test_bytes_are_a_unit_for_whatever_is_no_text(tmp_path: Path, capsysbinary: Any) -> None:
    (tmp_path / "data.bin").write_bytes(np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes())
    arguments = ["--unit", "byte", "--run", str(tmp_path / "run"), "--quiet", *SMALL]
    assert main(["train", "text", str(tmp_path / "data.bin"), *arguments]) == 0
    model = TextModel.load(tmp_path / "run")
    assert model.vocabulary.unit == "byte"
    assert model.vocabulary.size == 256
    assert main(["sample", str(tmp_path / "run"), "--length", "50", "--seed", "1"]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--json"]) == 0


def test_persian_is_trained_on_sampled_and_scored_without_damage(
    tmp_path: Path, home: Path, environment: dict[str, str]
) -> None:
    text = PERSIAN * 40
    (tmp_path / "گلستان.txt").write_text(text, encoding="utf-8")
    result = run(tmp_path, environment, "train", "text", "گلستان.txt", "--run", "اجرا", "--json", *SMALL)
    assert one_object(result)["run"] == "اجرا"
    model = TextModel.load(tmp_path / "اجرا")
    assert model.vocabulary.decode(model.vocabulary.encode(text)) == text
    assert "\N{ZERO WIDTH NON-JOINER}" in model.vocabulary.symbols
    sample = run(tmp_path, environment, "sample", "اجرا", "--prime", "سلام", "--length", "60", "--seed", "1")
    written = sample.stdout.decode("utf-8")
    assert written.startswith("سلام")
    assert set(written) <= set(text)
    assert len(written) == 4 + 60 + 1
    # Also where the terminal's encoding knows no Persian: nothing breaks, and JSON loses nothing.
    narrow = {**environment, "PYTHONIOENCODING": "ascii"}
    figures = one_object(
        run(tmp_path, narrow, "sample", "اجرا", "--prime", "سلام", "--length", "60", "--seed", "1", "--json")
    )
    assert "سلام" + figures["samples"][0] + "\n" == written
    shown = run(tmp_path, narrow, "samples", "اجرا")
    assert shown.returncode == 0, shown.stderr


def test_flags_go_over_the_file_of_settings(home: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        '[network]\ncell = "elman"\nhidden = 5\n\n[training]\nsteps = 7\nbatch = 2\nunroll = 16\noptimizer = "adamw"\n'
    )
    arguments = ["train", "text", str(home / "words.txt"), "--quiet", "--config", str(tmp_path / "settings.toml")]
    assert main([*arguments, "--run", str(tmp_path / "run"), "--hidden", "16"]) == 0
    run = TextRun(tmp_path / "run")
    assert len(run.losses) == 7
    assert run.description["network"]["hidden"] == 16
    assert run.description["network"]["cell"] == "elman"
    # A run's own settings are such a file; a budget of another kind on the command line takes the place of the file's.
    again = ["train", "text", str(home / "words.txt"), "--quiet", "--config", str(tmp_path / "run" / "config.toml")]
    assert main([*again, "--run", str(tmp_path / "again"), "--epochs", "0.05"]) == 0
    assert TextRun(tmp_path / "again").description["network"] == run.description["network"]


def test_no_samples_are_shown_where_none_are_wanted(home: Path, tmp_path: Path, capsys: Any) -> None:
    arguments = ["train", "text", str(home / "words.txt"), "--no-samples", "--run", str(tmp_path / "run"), *SMALL]
    assert main(arguments) == 0
    assert "--- sample" not in capsys.readouterr().err
    assert len(TextRun(tmp_path / "run").samples) == 1


def run(
    folder: Path, environment: dict[str, str], *arguments: str, input: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    """`elman …` as a process of its own."""
    command = [sys.executable, "-m", "elman", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, input=input, timeout=120)


def one_object(result: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    """What a command said with --json: one line, one object."""
    assert result.returncode == 0, result.stderr.decode()
    text = result.stdout.decode("utf-8")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    value = json.loads(text)
    assert isinstance(value, dict)
    return value
