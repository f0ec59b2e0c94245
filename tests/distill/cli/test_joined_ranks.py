"""Processes that are started together and don't all come."""

import json
import socket
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from distill.base.errors import UserError
from distill.cli import joined_ranks
from distill.cli.main import main


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_waits_for_others_in_vain_says_so(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_PORT": port}
    for name, value in (place | {"MASTER_ADDR": "127.0.0.1"}).items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(joined_ranks, "MEETING", timedelta(seconds=1))
    told = rf"Process {rank} of 2 can't meet the others at 127.0.0.1 port {port} .*why one did not"
    with pytest.raises(UserError, match=told), joined_ranks.ranks_joined("cpu"):
        pass


def test_torchrun_ends_with_the_sentence_of_the_process_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "error.json"
    asked = ["run", "--recipe", "nothing.toml"]
    ended = CliRunner().invoke(main, asked, env={"TORCHELASTIC_ERROR_FILE": str(path)})
    assert ended.exit_code == 2
    assert f"Error: {json.loads(path.read_text())['message']}\n" == ended.stderr
