"""The folder of one training run. Each file is replaced in one step, so a kill leaves every one of them whole.

runs/<name>/checkpoint.safetensors  the trained network, written when training is over: where it is, the run is done
            best.safetensors        the network with the lowest validation error
            epochs/0007.safetensors the last few epochs' networks
            state.safetensors       weights, momentum and progress: what --resume goes on from
            log.jsonl               what the run is, then a line an epoch
            lock                    held by the process that writes here
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO

import files
from model import checkpoint
from model.checkpoint import Checkpoint
from model.train.state import BadRun, Json, State, read, to_bytes

__all__ = ["RunFolder"]


class RunFolder:
    """Writes and reads one run. identity: JSON that must be equal for a run to be the same run; it may be nested."""

    def __init__(self, path: Path, identity: Json, keep: int = 2) -> None:
        self.path = path
        self.identity = json.loads(json.dumps(identity))
        self.keep = keep
        self.final, self.best = path / "checkpoint.safetensors", path / "best.safetensors"
        self.state, self.log = path / "state.safetensors", path / "log.jsonl"
        self._lock: IO[bytes] | None = None

    def claim(self, network: int, state: int) -> None:
        """Hold the folder for this process alone, until `close` or its end, so that two runs cannot write into it.

        network, state: bytes of a checkpoint and of a saved state. Raises BadRun when another process holds the folder
        and when the disk is too small, before a folder is made.
        """
        with files.translated(self.path, BadRun, BadRun):
            if self.path.exists() and not self.path.is_dir():
                raise BadRun(f"{self.path} is not a folder")
            is_new = not self.path.exists()
            if is_new:
                self._require_space(network, state)
            files.make_folder(self.path)
            try:
                self._lock = files.locked(self.path / "lock")
            except files.AlreadyLocked as error:
                raise BadRun(f"{self.path}: another process trains here; wait for it, or name another --out") from error
            if not is_new:  # only now: another process would remove files while their sizes are added up
                self._require_space(network, state)

    def close(self) -> None:
        """Let another process have the folder."""
        if self._lock is not None:
            self._lock.close()

    def begin(self, resume: bool) -> State | None:
        """Return the state to go on from, None for a fresh start.

        A folder that holds a run is only continued, and only as the run that it is: anything else raises BadRun.
        """
        there = self.state.exists() or self.final.exists() or self.log.exists()
        if there and not resume:
            raise BadRun(f"{self.path} holds a run already: --resume goes on with it, --out starts another elsewhere")
        return read(self.state, self.identity) if self.state.exists() else None

    def done(self) -> bool:
        """Return whether the run has reached its end."""
        return self.final.exists()

    def save(self, state: State) -> None:
        """Replace the state in one step. Raises BadRun when the disk does not take it; the old state stays."""
        self._writing(lambda: files.replace(self.state, to_bytes(state, self.identity)))

    def keep_epoch(self, epoch: int, network: Checkpoint, is_best: bool) -> None:
        """Write the network of epoch `epoch`, remove the oldest one, and give the best one its name."""
        path = self._epoch(epoch)
        self._writing(lambda: checkpoint.save(path, network))
        if is_best:
            self._writing(lambda: files.link(path, self.best))
        for old in self._epochs():
            if int(old.stem) <= epoch - self.keep:
                old.unlink()

    def finish(self, epoch: int) -> None:
        """Make the network of epoch `epoch` the trained one: from then on the run is done."""
        self._writing(lambda: files.link(self._epoch(epoch), self.final))

    def last_good(self) -> Path | None:
        """Return the newest file that a failed run leaves to go back to: an epoch's network, else the state."""
        epochs = self._epochs()
        return epochs[-1] if epochs else self.state if self.state.exists() else None

    def _epochs(self) -> list[Path]:
        """Return the epochs' networks, oldest first. Files of other names that lie beside them are not ours."""
        found = (self.path / "epochs").glob("*.safetensors")
        return sorted((file for file in found if file.stem.isdecimal()), key=lambda file: int(file.stem))

    def _epoch(self, epoch: int) -> Path:
        return self.path / "epochs" / f"{epoch:04}.safetensors"

    def _writing(self, write: Callable[[], None]) -> None:
        with files.translated(self.path, BadRun, BadRun):
            files.make_folder(self.path)
            write()

    def _require_space(self, network: int, state: int) -> None:
        """Ask for the old and the new state, the kept epochs and a new one, and copies of the best and the last.

        The best and the last take no space of their own where the file system has links.
        """
        existing = next(folder for folder in (self.path, *self.path.resolve().parents) if folder.exists())
        needed = 2 * state + (self.keep + 3) * network
        # A linked file has two names and one size.
        kept = {file.stat().st_ino: file.stat().st_size for file in self.path.rglob("*.safetensors")}
        free = shutil.disk_usage(existing).free + sum(kept.values())
        if free < needed:
            raise BadRun(f"{self.path}: {_size(free)} free on this disk, a run of this network needs {_size(needed)}")


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
