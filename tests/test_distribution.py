"""Several processes that train together are one run: the same losses as one process, nothing lost where one of them is killed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from elman.cli import main
from elman.series.run import SeriesRun
from elman.text.run import TextRun
from texts import words as text_of_words

STEPS = 40
BUDGET = ["--steps", STEPS, "--checkpoint-every", 1, "--validate-every", 10]
TEXT = ["--cell", "lstm", "--hidden", "8", "--layers", "2", "--dropout", "0.2", "--recurrent-dropout", "0.1"]
TEXT += ["--batch", "4", "--unroll", "8", "--dtype", "float64", "--sample-every", "0"]


def launch(processes: int, *words: Any, environment: dict[str, str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "elman", "launch", "--processes", str(processes), "train", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(text_of_words(1500))
    return path


@pytest.fixture(scope="module")
def alone(text: Path, environment: dict[str, str]) -> TextRun:
    """What one process does."""
    run = text.parent / "alone"
    finished = launch(1, "text", text, "--run", run, *BUDGET, *TEXT, environment=environment)
    assert finished.returncode == 0, finished.stderr
    return TextRun(run)


MEETING = """
import os, sys
from pathlib import Path
from elman.training.distribution import join, leave

group = join(sys.argv[1], 2, int(sys.argv[2]))
mine = {os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{name}")}
for table in ("tcp", "tcp6"):
    for line in Path("/proc/self/net", table).read_text().splitlines()[1:]:
        words = line.split()
        if words[3] == "0A" and f"socket:[{words[9]}]" in mine:
            print(words[1].split(":")[0])
sys.stdout.flush()
leave(group, 0)
"""


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="only Linux lists the sockets of a process there")
def test_processes_of_one_host_listen_to_that_host_only(environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEETING, address, str(number)], env=environment, stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    listening = [process.communicate(timeout=120)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    own = {
        "0100007F",
        "00000000000000000000000001000000",
        "0000000000000000FFFF00000100007F",
    }  # 127.0.0.1, ::1 and both in one
    assert listening[0], "the leader listens"
    assert set(listening[0] + listening[1]) <= own


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.long)])
def test_the_losses_are_those_of_one_process(
    processes: int, alone: TextRun, text: Path, environment: dict[str, str]
) -> None:
    run = text.parent / f"by-{processes}"
    words = ["text", text, "--run", run, *BUDGET, "--json", "--quiet", *TEXT]
    finished = launch(processes, *words, environment=environment)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["updates"] == STEPS, "one JSON object and nothing else"
    np.testing.assert_allclose(TextRun(run).losses, alone.losses, rtol=1e-9)
    np.testing.assert_allclose(TextRun(run).best, alone.best, rtol=1e-9)


@pytest.mark.parametrize("killed", [0, pytest.param(1, marks=pytest.mark.long)])
def test_a_killed_process_stops_the_others_and_nothing_is_lost(
    killed: int, alone: TextRun, text: Path, environment: dict[str, str]
) -> None:
    """The run goes on with the same number of processes, and then with another, to the losses of an undisturbed one."""
    run = text.parent / f"killed-{killed}"
    words = ["--run", run, *BUDGET, *TEXT]
    process = subprocess.Popen(
        [sys.executable, "-m", "elman", "launch", "--processes", "2", "train", "text", text, *map(str, words)],
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    members = wait_for(process, run)
    (victim,) = [pid for pid, number in members if number == killed]
    assert process.poll() is None, "it should be in the midst of it"
    os.kill(victim, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"process {killed} of 2 was ended by signal 9" in said
    assert killed == 0 or "another process of this run has stopped answering" in said, said
    assert not [pid for pid, _ in members if Path(f"/proc/{pid}").exists()], "nobody is left behind"
    before = len(TextRun(run).losses)
    assert 0 < before < STEPS
    finished = launch(2 if killed else 1, "--resume", run, "--quiet", environment=environment)
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(TextRun(run).losses, alone.losses, rtol=1e-9)


def wait_for(process: subprocess.Popen, run: Path) -> list[tuple[int, int]]:
    """Wait until the run has a checkpoint behind its first; (process, its number) of its processes."""
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        if len(list((run / "checkpoints").glob("*.safetensors"))) > 1:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            lines = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in children]
            return [
                (int(pid), int(line[line.index("--process-id") + 1])) for pid, line in zip(children, lines, strict=True)
            ]
        time.sleep(0.005)
    raise AssertionError(f"the run has not begun: {process.stderr.read() if process.stderr else ''}")


CLUSTERS = {
    "SLURM": {"SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"},
    "Open MPI": {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2"},
}
"""What the launchers tell their processes, and by which names a process learns its own number."""
NUMBERS = {
    "SLURM": ("SLURM_PROCID", "SLURM_LOCALID"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
}


@pytest.mark.parametrize("cluster", ["SLURM", pytest.param("Open MPI", marks=pytest.mark.long)])
def test_a_cluster_says_who_they_are(
    cluster: str, alone: TextRun, text: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    words = ["train", "text", text, "--run", tmp_path / "run", *BUDGET, *TEXT, "--distributed", "--quiet"]
    members = []
    for number in "01":
        told = {**environment, **CLUSTERS[cluster], **dict.fromkeys(NUMBERS[cluster], number)}
        command = [sys.executable, "-m", "elman", *map(str, words)]
        members.append(
            subprocess.Popen(command, env=told, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        )
    for member in members:
        _, said = member.communicate(timeout=120)
        assert member.returncode == 0, said
    np.testing.assert_allclose(TextRun(tmp_path / "run").losses, alone.losses, rtol=1e-9)


@pytest.fixture
def two_hosts() -> Iterator[tuple[list[str], list[str]]]:
    """What stands before a command to run it on the one "host" or the other: network namespaces with a cable between them."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and `ip` (Debian's iproute2)")
    hosts = [f"elman-{os.getpid()}-{side}" for side in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        try:
            for host in hosts:
                ip("netns", "add", host)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        ip("link", "add", "cable", "netns", hosts[0], "type", "veth", "peer", "name", "cable", "netns", hosts[1])
        for number, host in enumerate(hosts, 1):
            ip("-n", host, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            for link in ("lo", "cable"):
                ip("-n", host, "link", "set", link, "up")
        first, second = (["ip", "netns", "exec", host] for host in hosts)
        yield first, second
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host], capture_output=True)


@pytest.mark.long
def test_a_cut_cable_stops_both_hosts_and_nothing_is_lost(
    two_hosts: tuple[list[str], list[str]], alone: TextRun, text: Path, environment: dict[str, str]
) -> None:
    """Nobody closes a connection: each host has to find out by itself, within a minute, and says so in one line."""
    run = text.parent / "cut"
    words = ["train", "text", text, "--run", run, *BUDGET, *TEXT, "--coordinator", "10.77.0.1:45670", "--processes", 2]
    members = [
        subprocess.Popen(
            [*host, sys.executable, "-m", "elman", *map(str, words), "--process-id", str(number)],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        for number, host in enumerate(two_hosts)
    ]
    end = time.monotonic() + 60
    while len(list((run / "checkpoints").glob("*.safetensors"))) < 2 and time.monotonic() < end:
        time.sleep(0.005)
    subprocess.run(["ip", "-n", two_hosts[0][-1], "link", "set", "cable", "down"], check=True)
    for member in members:
        _, said = member.communicate(timeout=60)
        assert member.returncode == 2, said
        assert "another process of this run has stopped answering" in said.splitlines()[-1], said
    assert 0 < len(TextRun(run).losses) < STEPS
    finished = launch(2, "--resume", run, "--quiet", environment=environment)
    assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(TextRun(run).losses, alone.losses, rtol=1e-9)


@pytest.mark.parametrize("method", ["streams", pytest.param("windows", marks=pytest.mark.long)])
def test_forecasters_train_together(method: str, tmp_path: Path, environment: dict[str, str]) -> None:
    random = np.random.default_rng(0)
    hours = np.arange(400)
    values = np.sin(hours / 4) + 0.1 * random.normal(size=400)
    values[50:60] = np.nan  # where a part of the batch has fewer targets than another, the mean is still that of all
    times = pl.datetime_range(pl.datetime(2020, 1, 1), pl.datetime(2021, 1, 1), "1h", eager=True)[:400]
    table = tmp_path / "table.csv"
    pl.DataFrame({"time": times, "y": values}).write_csv(table)
    words = ["series", table, "--target", "y", "--horizon", "3h", "--lookback", "12h", "--method", method]
    words += ["--hidden", 6, "--batch", 4, "--unroll", 12, "--steps", 12, "--dtype", "float64", "--no-baselines"]
    runs = [tmp_path / f"by-{processes}" for processes in (1, 2)]
    for processes, run in enumerate(runs, 1):
        finished = launch(processes, *words, "--run", run, "--quiet", environment=environment)
        assert finished.returncode == 0, finished.stderr
    np.testing.assert_allclose(SeriesRun(runs[1]).losses, SeriesRun(runs[0]).losses, rtol=1e-9)
    one, two = (SeriesRun(run).evaluation["test"]["mae"] for run in runs)
    np.testing.assert_allclose(one, two, rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coordinator", "127.0.0.1:1"], "--processes, --process-id is missing"),
        (["--coordinator", "127.0.0.1:1", "--processes", "2", "--process-id", "2"], "none of 2 processes"),
    ],
)
def test_half_an_address_is_refused(words: list[str], message: str, text: Path, capsys: Any) -> None:
    assert main(["train", "text", str(text), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_batch_that_cannot_be_shared_is_refused(text: Path, environment: dict[str, str]) -> None:
    finished = launch(
        2, "text", text, "--run", text.parent / "odd", "--batch", 3, "--steps", 2, environment=environment
    )
    assert finished.returncode == 2
    assert "batch = 3 cannot be shared by 2 processes" in finished.stderr


@pytest.mark.parametrize("words", [[], ["sample", "run"]])
def test_only_training_can_be_launched(words: list[str], capsys: Any) -> None:
    assert main(["launch", *words]) == 2
    assert "say what to launch" in capsys.readouterr().err
