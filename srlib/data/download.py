"""The download stage: public data, each file checked against its checksum, whatever the network does.

Finished and partial files live in a store that is named by checksum and outlives DVC's clearing of outputs, so nothing
is fetched twice and a broken transfer goes on where it stopped. SRLIB_MIRROR (a folder, or an address) may stand in for
the network; its files are checked the same way.
"""

import http.client
import json
import os
import shutil
import stat
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from srlib.data import sources
from srlib.data.sources import Source
from srlib.errors import SrlibError
from srlib.files import atomic_path, file_hash, remove, write_json
from srlib.params import Download, FeatureFile
from srlib.progress import progress

PARALLEL = 4  # files at once
CHUNK = 1 << 18  # bytes
TIMEOUT = 30.0  # seconds without a byte
PATIENCE = (0.5, 1, 2, 4, 8, 16)  # seconds before each further try without progress
REFETCHES = 3  # whole files thrown away for a wrong checksum
LARGEST_MEMBER = 64 << 20  # bytes of one picture in an archive
FINAL = {400, 401, 403, 404, 405, 410, 451}  # HTTP statuses that another try does not mend

Report = Callable[[int], None]


def download(
    role: str, out: Path, params: Download, *, scale: int, store: Path, mirror: str | None = None
) -> list[Source]:
    """Makes the folder of one role of the recipe: `train`, `test` or `features`.

    `train` gets HR/ (and LR/ where the source has LR pictures), `test` one <Set>/HR/ per set, `features` a weights
    file. Each also gets SOURCES.json, which says what it is made of.

    Args:
        role: Which part of the section.
        out: The folder to make; whole or not at all.
        params: The section of the recipe.
        scale: The factor of enlargement.
        store: The folder of finished and partial downloads.
        mirror: A folder or a base address that holds the files under `Source.path`.

    Returns:
        The files that were fetched or found in the store.

    Raises:
        SrlibError: A file cannot be had, named with its address, or the disk is too small.
    """
    with atomic_path(out) as folder:
        folder.mkdir()
        if role == "train":
            used = _train(folder, params.train, scale, store, mirror)
        elif role == "test":
            used = [s for name in params.test for s in _test(folder / name, name, scale, store, mirror)]
        else:
            used = _features(folder, params.features, store, mirror)
        facts = [{"path": s.path, "url": s.url, s.algorithm: s.digest} for s in used]
        write_json(folder / "SOURCES.json", {role: params.model_dump(mode="json")[role], "files": facts})
    return used


def check_sets(params: Download, scale: int) -> None:
    """Raises SrlibError for a test set that does not exist at this scale, before anything is fetched."""
    for name in params.test:
        if name not in ("sample", "DIV2K"):
            sources.benchmark(name, scale)


def _train(folder: Path, choice: str, scale: int, store: Path, mirror: str | None) -> list[Source]:
    if choice == "none":
        return []
    if choice == "sample":
        _copy_sample(sources.SAMPLE_TRAIN, folder / "HR")
        return []
    kind = choice.removeprefix("div2k-")
    hr, lr = (sources.div2k()[part] for part in ("train_HR", f"train_LR_{kind}_X{scale}"))
    _need_space(folder, sum(s.size or 0 for s in (hr, lr)), "unpacking DIV2K")
    found = fetch([hr, lr], store, mirror)
    _unpack(found[hr], {f"DIV2K_train_HR/{i:04}.png": f"{i:04}.png" for i in range(1, 801)}, folder / "HR")
    inside = f"DIV2K_train_LR_{kind}/X{scale}"
    _unpack(found[lr], {f"{inside}/{i:04}x{scale}.png": f"{i:04}x{scale}.png" for i in range(1, 801)}, folder / "LR")
    return [hr, lr]


def _test(folder: Path, name: str, scale: int, store: Path, mirror: str | None) -> list[Source]:
    if name == "sample":
        _copy_sample(sources.SAMPLE_TEST, folder / "HR")
        return []
    if name == "DIV2K":
        archive = sources.div2k()["valid_HR"]
        found = fetch([archive], store, mirror)
        _unpack(found[archive], {f"DIV2K_valid_HR/{i:04}.png": f"{i:04}.png" for i in range(801, 901)}, folder / "HR")
        return [archive]
    pictures = sources.benchmark(name, scale)
    found = fetch(pictures.values(), store, mirror)
    (folder / "HR").mkdir(parents=True)
    for own, source in pictures.items():
        shutil.copyfile(found[source], folder / "HR" / own)
    return list(pictures.values())


def _features(folder: Path, choice: str | FeatureFile, store: Path, mirror: str | None) -> list[Source]:
    if choice == "vgg19":
        found = fetch([sources.VGG19], store, mirror)
        shutil.copyfile(found[sources.VGG19], folder / sources.VGG19.name)
        return [sources.VGG19]
    if isinstance(choice, FeatureFile):
        path = Path(choice.file).expanduser()
        if not path.is_file():
            raise SrlibError(f"download.features.file: {path}: no such file")
        shutil.copyfile(path, folder / "features.h5")
        if (got := file_hash(folder / "features.h5")) != choice.sha256:
            raise SrlibError(f"download.features.sha256: {path} has {got}; write that if it is the file you mean")
    return []


def _copy_sample(pictures: dict[str, str], folder: Path) -> None:
    """Copies photographs out of the installed scikit-image package."""
    import skimage.data

    bundled = Path(str(skimage.data.__file__)).parent
    folder.mkdir(parents=True)
    for name, digest in pictures.items():
        if not (bundled / name).is_file() or file_hash(bundled / name) != digest:
            raise SrlibError(
                f"scikit-image does not hold the expected {name}; install the versions of requirements.lock"
            )
        shutil.copyfile(bundled / name, folder / name)


def _need_space(folder: Path, size: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if size > free:
        raise SrlibError(f"{folder}: {what} needs {size / 1e9:.1f} GB, but only {free / 1e9:.1f} GB are free")


def _unpack(archive: Path, members: dict[str, str], folder: Path) -> None:
    """Unpacks exactly `members` (name inside → file name) into `folder`; anything else in the archive is refused."""
    folder.mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            inside = {info.filename: info for info in opened.infolist() if not info.is_dir()}
            if inside.keys() != members.keys():
                odd = sorted(inside.keys() ^ members.keys())
                raise SrlibError(f"{archive}: expected {len(members)} pictures, but these differ: {', '.join(odd[:5])}")
            for name, info in inside.items():
                if stat.S_ISLNK(info.external_attr >> 16) or info.file_size > LARGEST_MEMBER:
                    raise SrlibError(f"{archive}: {name} is a link or larger than a picture may be")
            with progress(len(members), f"unpacking {folder.name}", "pictures") as advance:
                for name, info in inside.items():
                    with opened.open(info) as packed, (folder / members[name]).open("wb") as file:
                        shutil.copyfileobj(packed, file, CHUNK)
                    advance()
    except (zipfile.BadZipFile, EOFError) as error:
        raise SrlibError(f"{archive}: not a whole archive ({error}); delete it to fetch it again") from None


def fetch(wanted: Iterable[Source], store: Path, mirror: str | None = None) -> dict[Source, Path]:
    """Makes sure that files are in the store, several at once, and says where.

    Raises:
        SrlibError: One of them cannot be had; the partial file stays for the next time.
    """
    wanted = list(wanted)
    store.mkdir(parents=True, exist_ok=True)
    found = {source: store / f"{source.digest}-{source.name}" for source in wanted}
    missing = [source for source in wanted if not _is_whole(found[source], source)]
    if not missing:
        return found
    _need_space(store, sum(source.size or 0 for source in missing), f"fetching {len(missing)} files")
    sized = all(source.size for source in missing)
    total = sum(source.size or 0 for source in missing) if sized else len(missing)
    stop = threading.Event()
    with progress(total, "download", "B" if sized else "files") as advance, ThreadPoolExecutor(PARALLEL) as pool:

        def one(source: Source) -> None:
            _fetch_one(source, found[source], mirror, advance if sized else lambda n: None, stop)
            if not sized:
                advance(1)

        jobs = [pool.submit(one, source) for source in missing]
        try:
            for job in jobs:
                job.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    return found


def _is_whole(path: Path, source: Source) -> bool:
    return path.is_file() and file_hash(path, source.algorithm) == source.digest


class _UnfinishedError(Exception):
    """A try that broke off and may be worth another one."""


def _fetch_one(source: Source, path: Path, mirror: str | None, report: Report, stop: threading.Event) -> None:
    from filelock import FileLock

    partial = path.with_name(f"{path.name}.partial")
    with FileLock(f"{path}.lock"):
        if _is_whole(path, source):  # another process was faster
            report(source.size or 0)
            return
        report(partial.stat().st_size if partial.exists() else 0)
        tries = refetches = 0
        while True:
            before = _size(partial)
            try:
                _transfer(source, partial, mirror, report, stop)
            except _UnfinishedError as error:
                tries = 0 if _size(partial) > before else tries + 1
                if tries > len(PATIENCE):
                    raise _failure(source, mirror, str(error)) from None
                stop.wait(PATIENCE[max(0, tries - 1)])
            else:
                if _is_whole(partial, source):
                    break
                report(-_size(partial))
                _forget(partial)
                refetches += 1
                if refetches >= REFETCHES:
                    raise _failure(source, mirror, f"{REFETCHES} times the wrong {source.algorithm}")
            if stop.is_set():
                raise _failure(source, mirror, "another file failed")
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
        _forget(partial)
    Path(f"{path}.lock").unlink(missing_ok=True)


def _failure(source: Source, mirror: str | None, reason: str) -> SrlibError:
    where = _address(source, mirror)
    return SrlibError(
        f"{source.name}: could not be fetched from {where}: {reason}; run it again to go on, or set SRLIB_MIRROR to a "
        f"folder or an address that holds {source.path}"
    )


def _address(source: Source, mirror: str | None) -> str:
    return source.url if mirror is None else f"{mirror.rstrip('/')}/{source.path}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _forget(partial: Path) -> None:
    remove(partial)
    remove(_validator(partial))


def _validator(partial: Path) -> Path:
    """The file that remembers which version of the remote file a partial one is of."""
    return partial.with_name(f"{partial.name}.json")


def _transfer(source: Source, partial: Path, mirror: str | None, report: Report, stop: threading.Event) -> None:
    """One try: appends what is missing to `partial`.

    Raises:
        SrlibError: No further try can help.
        _UnfinishedError: One may.
    """
    address = _address(source, mirror)
    if not address.startswith(("http://", "https://")):
        path = Path(address)
        if not path.is_file():
            raise _failure(source, mirror, "no such file in the mirror")
        report(-_size(partial))
        shutil.copyfile(path, partial)
        report(_size(partial))
        return
    request = urllib.request.Request(address, headers={"User-Agent": "srlib", "Accept-Encoding": "identity"})
    have = _size(partial)
    validator = _read_validator(partial) if have else None
    if have and source.size == have:
        return
    if validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        with _opener().open(request, timeout=TIMEOUT) as response:
            _receive(source, partial, response, have, report, stop)
    except urllib.error.HTTPError as error:
        if error.code in FINAL:
            raise _failure(source, mirror, f"HTTP {error.code} {error.reason}") from None
        if error.code == 416:  # what we have is not a beginning of what is there
            report(-have)
            _forget(partial)
        raise _UnfinishedError(f"HTTP {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        raise _UnfinishedError(str(error.reason)) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError) as error:
        raise _UnfinishedError(str(error) or type(error).__name__) from None


def _receive(source: Source, partial: Path, response: Any, have: int, report: Report, stop: threading.Event) -> None:
    resumed = response.status == 206
    if resumed and not str(response.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
        report(-have)
        _forget(partial)
        raise _UnfinishedError("the server resumed at another place")
    length = response.headers.get("Content-Length")
    expected = int(length) + (have if resumed else 0) if length and length.isdigit() else None
    if source.size is not None and expected not in (None, source.size):
        report(-have)
        _forget(partial)
        raise _UnfinishedError(f"the server offers {expected} bytes instead of {source.size}")
    if not resumed:
        report(-have)
        _forget(partial)
    etag = response.headers.get("ETag", "")
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    write_json(_validator(partial), {"validator": validator})
    size = have if resumed else 0
    with partial.open("ab") as file:
        while block := response.read(CHUNK):
            file.write(block)
            size += len(block)
            report(len(block))
            if source.size is not None and size > source.size:
                report(-size)
                file.truncate(0)
                raise _UnfinishedError(f"the server sent more than {source.size} bytes")
            if stop.is_set():
                raise _UnfinishedError("another file failed")
    whole = expected if expected is not None else source.size
    if whole is not None and size < whole:
        raise _UnfinishedError(f"the connection ended after {size} of {whole} bytes")


def _read_validator(partial: Path) -> str | None:
    try:
        found = json.loads(_validator(partial).read_text(encoding="utf-8"))["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # an unfinished note: the file is fetched from its beginning
    return found if isinstance(found, str) else None


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS only, also after redirects."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener
