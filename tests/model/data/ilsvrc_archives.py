"""The three ILSVRC archives in their exact layout, with four classes and seventeen images."""

import io
import tarfile
from pathlib import Path

from tests.images import encoded, photograph

# Written by scipy.io.savemat, compressed, with the fields of the real kit; ids 1-4 are leaves, 5 and 6 lie above them.
META = Path(__file__).parents[2] / "golden" / "ilsvrc_meta.mat"
WNIDS = {1: "n02119789", 2: "n03126707", 3: "n02012849", 4: "n01440764"}
TRUTH = [4, 1, 3, 3, 2]

Archives = tuple[Path, Path, Path]


def tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    """An archive of these files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    return out.getvalue()


def jpeg(seed: int) -> bytes:
    return encoded(photograph(60, 80, seed=seed), "JPEG")


def make_archives(folder: Path) -> Archives:
    """Write the train tar of tars, the validation tar and the development kit."""
    inner = {
        f"{wnid}.tar": tar({f"{wnid}_{number}.JPEG": jpeg(10 * number_of + number) for number in range(3)})
        for number_of, wnid in sorted(WNIDS.items(), key=lambda item: item[1])
    }
    (folder / "train.tar").write_bytes(tar(inner))
    names = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (3, 1, 5, 2, 4)]  # in no order, as tars may be
    (folder / "val.tar").write_bytes(tar({name: jpeg(int(name[15:23])) for name in names}))
    (folder / "kit.tar.gz").write_bytes(kit(META.read_bytes()))
    return folder / "train.tar", folder / "val.tar", folder / "kit.tar.gz"


def kit(meta: bytes, truth: str = "\n".join(map(str, TRUTH)) + "\n") -> bytes:
    """The kit's archive, with a readme and the synsets' copy that it does not mean."""
    top = "ILSVRC2012_devkit_t12"
    files = {f"{top}/readme.txt": b"...", f"{top}/data/meta.mat": meta, f"{top}/evaluation/meta.mat": b"x"}
    return tar({**files, f"{top}/data/ILSVRC2012_validation_ground_truth.txt": truth.encode()}, "w:gz")
