"""LIBERO's data: what counts as missing, stand-in and altered, and fetching it from folder, hub and git."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vla_bench import catalog
from vla_bench.errors import DataError, MissingCapabilityError, MissingDataError, VlaBenchError
from vla_bench.sim import assets, assets_fetch
from vla_bench.sim.assets import check_files, libero_files, libero_status, robosuite_assets
from vla_bench.sim.assets_fetch import HUB_REPOSITORY, HUB_REVISION, fetch_libero

MESH, SCENE, TEXTURE = (
    "assets/objects/bowl/bowl.msh",
    "assets/scenes/table.xml",
    "assets/objects/bowl/texture.png",
)
TASK, STATES = "bddl_files/suite/put the bowl.bddl", "init_files/suite/put the bowl.pruned_init"
ORIGINAL = {
    MESH: bytes(range(256)) * 2000,
    SCENE: b"<mujoco model='table'/>\n",
    TEXTURE: b"real texture " * 500,
    TASK: b"(define (problem bowl))\n",
    STATES: b"fifty states",
}
STANDIN = {MESH: b"four boxes", TEXTURE: b"grey"}
# What the hub keeps outside git (LFS) and serves by redirecting to another host.
LARGE = {MESH, TEXTURE}


def write(root: Path, content: dict[str, bytes]) -> Path:
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return root


@pytest.fixture(autouse=True)
def manifest(tmp_path, monkeypatch) -> Path:
    """A small LIBERO of five files, two of which have stand-ins."""
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "size", "sha256", "standin_size", "standin_sha256"])
        for name, text in ORIGINAL.items():
            standin = STANDIN.get(name)
            other = ("", "") if standin is None else (len(standin), hashlib.sha256(standin).hexdigest())
            table.writerow([name, len(text), hashlib.sha256(text).hexdigest(), *other])
    monkeypatch.setattr(assets, "MANIFEST", path)
    return path


# ── what is there ──────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_manifest_lists_the_130_tasks_and_their_files(monkeypatch):
    monkeypatch.undo()
    files = libero_files()
    for folder, count in (("assets", 169), ("bddl_files", 130), ("init_files", 130)):
        assert sum(name.startswith(folder + "/") for name in files) == count
    assert sum(file.standin_sha256 is not None for file in files.values()) == 17
    assert all(len(file.sha256) == 64 and file.size > 0 for file in files.values())
    for suite in catalog.suites().values():
        for stem in suite.stems() if suite.needs_libero else ():
            assert f"bddl_files/{suite.name}/{stem}.bddl" in files


def test_libero_data_that_is_in_use_is_known_file_by_file(monkeypatch):
    monkeypatch.undo()
    try:
        root = catalog.libero_root()
    except MissingDataError as error:
        pytest.skip(str(error))
    status = libero_status(root)
    assert not status.missing
    assert not status.altered
    noted = root / "STANDINS.md"
    if noted.is_file():
        assert len(status.standins) == 17
        assert all(f"`{name.removeprefix('assets/')}`" in noted.read_text() for name in status.standins)


def test_the_original_is_complete(tmp_path):
    status = libero_status(write(tmp_path / "data", ORIGINAL))
    assert status.is_original
    assert "complete" in str(status)


def test_missing_standin_and_altered_files_are_told_apart(tmp_path):
    content = ORIGINAL | {MESH: STANDIN[MESH], TEXTURE: ORIGINAL[TEXTURE][:100]}
    del content[STATES]
    status = libero_status(write(tmp_path / "data", content))
    assert (status.missing, status.standins, status.altered) == ((STATES,), (MESH,), (TEXTURE,))
    assert not status.is_original
    assert STATES in str(status)
    assert "pictures are not LIBERO's" in str(status)


def test_the_digest_follows_the_content(tmp_path):
    root = write(tmp_path / "data", ORIGINAL)
    before = libero_status(root).digest
    assert libero_status(write(tmp_path / "copy", ORIGINAL)).digest == before
    (root / SCENE).write_bytes(b"<mujoco/>")
    assert libero_status(root).digest != before


def test_a_missing_file_is_named_with_the_way_to_get_it(tmp_path):
    root = write(tmp_path / "data", {MESH: STANDIN[MESH], SCENE: ORIGINAL[SCENE]})
    check_files([root / MESH, root / SCENE], root)
    with pytest.raises(MissingDataError, match=r"texture\.png: no such file; run `vla-bench assets libero`"):
        check_files([root / SCENE, root / TEXTURE], root)


def test_a_truncated_file_is_named_with_both_sizes(tmp_path):
    root = write(tmp_path / "data", {MESH: ORIGINAL[MESH][:-1]})
    with pytest.raises(DataError, match=r"bowl\.msh: has 511999 bytes, LIBERO's file has 512000"):
        check_files([root / MESH], root)


def test_a_file_that_is_not_liberos_only_has_to_exist(tmp_path):
    mine = write(tmp_path, {"mine.bddl": b"(define)"}) / "mine.bddl"
    check_files([mine], tmp_path / "data")


# ── robosuite ──────────────────────────────────────────────────────────────────────────────────────────


def test_robosuites_models_are_found_without_importing_it():
    code = (
        "from vla_bench.sim.assets import robosuite_assets; import sys\n"
        "print((robosuite_assets() / 'grippers/panda_gripper.xml').is_file(), 'robosuite' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_without_robosuite_the_error_says_what_to_install(tmp_path, monkeypatch):
    """A folder of the same name earlier on the path hides the installed one."""
    (tmp_path / "robosuite").mkdir()
    (tmp_path / "robosuite/__init__.py").touch()
    monkeypatch.delitem(sys.modules, "robosuite", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingCapabilityError, match=r"pip install robosuite==1\.4\.0"):
        robosuite_assets()


# ── from a folder ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("below", ["", "libero", "libero/libero"])
def test_a_folder_or_a_clone_is_copied_and_its_state_told(tmp_path, below):
    source = tmp_path / "source"
    write(source / below, ORIGINAL | STANDIN)
    root = tmp_path / "cache/libero"
    status = fetch_libero(source, into=root)
    assert (status.root, status.missing, status.standins) == (root, (), (MESH, TEXTURE))
    assert (root / TASK).read_bytes() == ORIGINAL[TASK]
    (root / TASK).write_bytes(b"changed")
    assert (source / below / TASK).read_bytes() == ORIGINAL[TASK]


def test_a_second_folder_completes_the_first_and_never_replaces_an_original(tmp_path):
    root = tmp_path / "libero"
    first = write(tmp_path / "first", {MESH: ORIGINAL[MESH], TEXTURE: STANDIN[TEXTURE]})
    assert fetch_libero(first, into=root).missing == (SCENE, TASK, STATES)
    rest = {name: ORIGINAL[name] for name in (SCENE, TASK, STATES)}
    second = write(tmp_path / "second", rest | {MESH: STANDIN[MESH]})
    status = fetch_libero(second, into=root)
    assert (status.missing, status.standins) == ((), (TEXTURE,))


def test_a_folder_without_libero_is_refused(tmp_path):
    with pytest.raises(MissingDataError, match="neither it nor its libero/ holds assets"):
        fetch_libero(tmp_path, into=tmp_path / "libero")
    assert not (tmp_path / "libero").exists()


def test_only_one_process_fetches_into_a_folder(tmp_path):
    source = write(tmp_path / "source", ORIGINAL)
    with (tmp_path / "libero.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(VlaBenchError, match="another process"):
            fetch_libero(source, into=tmp_path / "libero")
    assert fetch_libero(source, into=tmp_path / "libero").is_original


def test_a_fetch_killed_between_the_renames_is_put_right(tmp_path):
    root = tmp_path / "libero"
    fetch_libero(write(tmp_path / "source", ORIGINAL), into=root)
    root.rename(tmp_path / "libero.previous")
    texture = write(tmp_path / "other", {TEXTURE: STANDIN[TEXTURE]})
    assert fetch_libero(texture, into=root).is_original
    assert not (tmp_path / "libero.previous").exists()


# ── from hub and git ───────────────────────────────────────────────────────────────────────────────────


class Hub:
    """The hub's HTTP interface for one repository, in the forms that huggingface.co answers with.

    Small files are redirected to a relative address of the same host, files outside git to another host
    with their size and digest in `X-Linked-*` headers. `answer` may change a body on its way out.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.requests: list[str] = []
        self.answer: Callable[[str, bytes], bytes] = lambda name, body: body
        self.cut_after: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def tree(self) -> list[dict]:
        folders = sorted({str(p) for name in self.files for p in Path(name).parents if str(p) != "."})
        entries: list[dict] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": p} for p in folders]
        for name, body in self.files.items():
            entry = {"type": "file", "oid": git_blob(body), "size": len(body), "path": name}
            if f"assets/{name}" in LARGE:
                entry["lfs"] = {"oid": sha256(body), "size": len(body), "pointerSize": 131}
            entries.append(entry)
        return entries

    def _handler(hub) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                repository, _, rest = path.removeprefix("/").partition(f"{HUB_REPOSITORY}/")
                name = rest.partition(f"{HUB_REVISION}/")[2]
                if (repository, rest) == ("api/datasets/", "revision/main"):
                    self.send(
                        200, json.dumps({"id": HUB_REPOSITORY, "sha": HUB_REVISION, "siblings": []}).encode()
                    )
                elif (repository, rest) == ("api/datasets/", f"tree/{HUB_REVISION}"):
                    self.send(200, json.dumps(hub.tree()).encode(), Content_Type="application/json")
                elif repository == "datasets/" and rest.startswith("resolve/") and name in hub.files:
                    self.resolve(name)
                elif repository == "api/resolve-cache/datasets/" and name in hub.files:
                    self.small(name)
                elif path.startswith("/lfs/"):
                    self.large(path.removeprefix("/lfs/"))
                else:
                    self.send(404, b'{"error":"Not found"}', X_Error_Code="RevisionNotFound")

            do_HEAD = do_GET  # noqa: N815

            def resolve(self, name: str) -> None:
                body = hub.files[name]
                if f"assets/{name}" not in LARGE:
                    target = f"{HUB_REPOSITORY}/{HUB_REVISION}/{urllib.parse.quote(name)}"
                    address = f"/api/resolve-cache/datasets/{target}"
                    self.send(307, b"", Location=address, X_Repo_Commit=HUB_REVISION)
                    return
                self.send(
                    302,
                    b"",
                    Location=f"http://localhost:{self.server.server_port}/lfs/{urllib.parse.quote(name)}",
                    X_Repo_Commit=HUB_REVISION,
                    X_Linked_Size=str(len(body)),
                    X_Linked_Etag=f'"{sha256(body)}"',
                )

            def small(self, name: str) -> None:
                body = hub.files[name]
                etag = f'"{git_blob(body)}"'
                self.send(200, hub.answer(name, body), ETag=etag, X_Repo_Commit=HUB_REVISION)

            def large(self, name: str) -> None:
                body = hub.answer(name, hub.files[name])
                wanted = self.headers.get("Range")
                start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
                status, rest = (206, body[start:]) if wanted else (200, body)
                span = f"bytes {start}-{len(body) - 1}/{len(body)}"
                cut = hub.cut_after.pop(name, None)
                self.send(status, rest, cut=cut, **({"Content_Range": span} if wanted else {}))

            def send(self, status: int, body: bytes, *, cut: int | None = None, **headers: str) -> None:
                self.send_response(status)
                for key, value in headers.items():
                    self.send_header(key.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body[:cut])
                if cut is not None:
                    self.close_connection = True

        return Handler


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def git_blob(body: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    files = {
        name.removeprefix("assets/"): text for name, text in ORIGINAL.items() if name.startswith("assets/")
    }
    hub = Hub(files | {".gitattributes": b"*.msh filter=lfs\n", "objects/unused/unused.xml": b"<mujoco/>"})
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    yield hub
    hub.close()


@pytest.fixture(autouse=True)
def repository(tmp_path, monkeypatch) -> Path:
    """A git repository laid out as LIBERO's, with the task files; nothing is fetched from anywhere else."""
    folder = tmp_path / "repository"
    write(folder / "libero/libero", {name: ORIGINAL[name] for name in (TASK, STATES)})
    write(folder, {"images/big.png": b"not needed"})

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        call = ["git", "-C", str(folder), *identity, *arguments]
        return subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    git("add", ".")
    git("commit", "--quiet", "-m", "data")
    monkeypatch.setattr(assets_fetch, "GIT_REVISION", git("rev-parse", "HEAD"))
    monkeypatch.setenv(assets_fetch.GIT_VARIABLE, folder.as_uri())
    return folder


def looks_installed(root: Path, monkeypatch) -> bool:
    monkeypatch.setenv(catalog.LIBERO_VARIABLE, str(root))
    try:
        return catalog.libero_root() == root
    except MissingDataError:
        return False


def test_the_network_gives_the_original(tmp_path, hub, monkeypatch):
    root = tmp_path / "cache/libero"
    status = fetch_libero("hub", into=root)
    assert status.is_original
    assert looks_installed(root, monkeypatch)
    assert sorted(p.name for p in root.parent.iterdir()) == ["libero", "libero.lock"]
    assert {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()} == set(ORIGINAL)
    assert not any("unused" in request for request in hub.requests)


def test_a_branch_of_the_hub_may_be_named(tmp_path, hub):
    assert fetch_libero("hub", revision="main", into=tmp_path / "libero").is_original
    with pytest.raises(MissingDataError, match="at nowhere from http://127"):
        fetch_libero("hub", revision="nowhere", into=tmp_path / "other")


def test_only_what_is_not_original_is_fetched(tmp_path, hub, repository):
    root = tmp_path / "libero"
    fetch_libero(write(tmp_path / "source", ORIGINAL | {TEXTURE: STANDIN[TEXTURE]}), into=root)
    (repository / ".git/HEAD").unlink()
    assert fetch_libero("hub", into=root).is_original
    resolved = {request.rpartition("/")[2] for request in hub.requests if "/resolve" in request}
    assert resolved == {"texture.png"}
    hub.requests.clear()
    assert fetch_libero("hub", into=root).is_original
    assert hub.requests == []


def test_an_interrupted_file_is_continued(tmp_path, hub):
    hub.cut_after = {"objects/bowl/bowl.msh": 100_000}
    assert fetch_libero("hub", into=tmp_path / "libero").is_original


def test_a_truncated_file_stops_the_fetch_and_the_next_one_continues(tmp_path, hub, monkeypatch):
    root = tmp_path / "libero"
    hub.answer = lambda name, body: body[:1000] if name.endswith(".msh") else body
    with pytest.raises(MissingDataError, match=r"should be of size 512000 but has size 1000.*--from"):
        fetch_libero("hub", into=root)
    assert not looks_installed(root, monkeypatch)
    hub.answer = lambda name, body: body
    assert fetch_libero("hub", into=root).is_original


def test_content_that_is_not_liberos_is_refused_and_fetched_anew(tmp_path, hub, monkeypatch):
    root = tmp_path / "libero"
    hub.answer = lambda name, body: bytes(len(body)) if name.endswith(".msh") else body
    with pytest.raises(DataError, match=r"1 different from LIBERO's \(assets/objects/bowl/bowl\.msh\)"):
        fetch_libero("hub", into=root)
    assert not looks_installed(root, monkeypatch)
    hub.answer = lambda name, body: body
    hub.requests.clear()
    assert fetch_libero("hub", into=root).is_original
    assert not any("table.xml" in request for request in hub.requests)


def test_a_failed_fetch_leaves_what_was_installed(tmp_path, hub):
    root = tmp_path / "libero"
    before = fetch_libero(write(tmp_path / "source", ORIGINAL | STANDIN), into=root)
    del hub.files["objects/bowl/bowl.msh"]
    with pytest.raises(
        MissingDataError, match=r"1 files did not come, for example assets/objects/bowl/bowl\.msh"
    ):
        fetch_libero("hub", into=root)
    assert libero_status(root) == before


def test_an_endpoint_without_the_data_is_named(tmp_path, hub, monkeypatch):
    elsewhere = f"{hub.endpoint}/elsewhere"
    monkeypatch.setenv("HF_ENDPOINT", elsewhere)
    with pytest.raises(MissingDataError, match=f"{HUB_REPOSITORY} at {HUB_REVISION} from {elsewhere}: .*404"):
        fetch_libero("hub", into=tmp_path / "libero")


def test_a_repository_that_does_not_answer_is_named(tmp_path, hub, monkeypatch):
    monkeypatch.setenv(assets_fetch.GIT_VARIABLE, (tmp_path / "nowhere").as_uri())
    with pytest.raises(MissingDataError, match=r"could not fetch file://.*nowhere at .*--from"):
        fetch_libero("hub", into=tmp_path / "libero")
    assert not (tmp_path / "libero").exists()
