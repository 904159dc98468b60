#!/usr/bin/env python3
"""Builds the Dockerfiles of testdata/build/compat with calque and with buildah and compares the images.

Compared are the file tree (path, kind, mode, owner, link, content) and the config. A difference is fine if
testdata/build/compat/differences.txt has it, with a reason; docs/compatibility.md says more.

    CALQUE=path/to/calque scripts/compat.py [CASE...]
"""

import bz2
import gzip
import hashlib
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
CASES = HERE / "testdata" / "build" / "compat"
CONFIG_KEYS = [
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
    "Healthcheck", "OnBuild", "Shell",
]


def write(path, text, mode=0o644):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def make_context(root):
    """What the Dockerfiles copy from."""
    write(root / "a.txt", "a\n")
    write(root / "b.txt", "b\n", 0o640)
    write(root / "run.sh", "#!/bin/sh\necho run\n", 0o755)
    write(root / "setuid", "s\n")
    (root / "setuid").chmod(0o4755)
    write(root / "dir/one", "one\n")
    write(root / "dir/sub/two", "two\n", 0o600)
    write(root / "dir/sub/deep/three.txt", "three\n")
    write(root / "dir/x.log", "log\n")
    write(root / "space d/f g", "space\n")
    write(root / "[b]racket", "bracket\n")
    (root / "empty").mkdir()
    (root / "dir" / "void").mkdir(mode=0o711)
    (root / "link").symlink_to("a.txt")
    (root / "dirlink").symlink_to("dir")
    (root / "dir/inner").symlink_to("../a.txt")
    (root / "dir/broken").symlink_to("nowhere")
    os.link(root / "dir/one", root / "dir/one-too")
    write(root / "ignored/x", "x\n")
    write(root / "ignored/keep", "keep\n")
    write(root / ".dockerignore", "ignored\n!ignored/keep\n**/*.skip\n# comment\n")
    write(root / "dir/sub/no.skip", "no\n")
    packed = root.parent / "packed"
    write(packed / "in/file", "packed\n")
    write(packed / "in/tool", "tool\n", 0o755)
    (packed / "in/to").symlink_to("file")
    plain = root / "plain.tar"
    with tarfile.open(plain, "w", format=tarfile.GNU_FORMAT) as tar:
        def owned(info):
            info.uid, info.gid, info.uname, info.gname, info.mtime = 41, 42, "", "", 1000000000
            return info
        tar.add(packed / "in", "in", filter=owned)
    data = plain.read_bytes()
    (root / "packed.gz").write_bytes(gzip.compress(data))
    (root / "packed.bz2").write_bytes(bz2.compress(data))
    (root / "packed.xz").write_bytes(lzma.compress(data))
    for path in [plain, *root.glob("packed.*")]:
        path.chmod(0o644)
    for path in [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]:
        if path.name != "void":
            path.chmod(0o755)


def make_base(root):
    """A root file system of busybox's."""
    rootfs = root / "rootfs"
    for name in ["bin", "etc", "tmp", "home/app"]:
        (rootfs / name).mkdir(parents=True, exist_ok=True)
        (rootfs / name).chmod(0o755)
    (rootfs / "tmp").chmod(0o1777)
    shutil.copy(shutil.which("busybox"), rootfs / "bin/busybox")
    for name in "sh cat chmod chown cp echo env false id ln ls mkdir mkfifo mv pwd rm stat test touch true".split():
        (rootfs / "bin" / name).symlink_to("busybox")
    write(rootfs / "etc/passwd", "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    write(rootfs / "etc/group", "root:x:0:\napp:x:1001:\nweb:x:99:\n")
    os.chown(rootfs / "home/app", 1000, 1001)
    folder = root / "base"
    folder.mkdir()
    subprocess.run(["tar", "-C", rootfs, "-cf", folder / "rootfs.tar", "."], check=True)
    write(folder / "Dockerfile", "FROM scratch\nADD rootfs.tar /\nENV PATH=/bin\nWORKDIR /\nCMD [\"sh\"]\n")
    return folder


def entry(info, tar):
    kind = {
        tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "link", tarfile.CHRTYPE: "char", tarfile.BLKTYPE: "block",
        tarfile.FIFOTYPE: "fifo",
    }.get(info.type, "file")
    out = {"kind": kind, "owner": f"{info.uid}:{info.gid}"}
    if kind != "link":
        out["mode"] = f"{info.mode & 0o7777:04o}"
    if kind == "link":
        out["target"] = info.linkname
    if kind == "file":
        content = tar.extractfile(info).read() if not info.islnk() else b""
        out["sha256"] = hashlib.sha256(content).hexdigest()[:16]
        out["size"] = len(content)
    return out


def layer_into(tree, archive):
    with tarfile.open(fileobj=archive) as tar:
        members = tar.getmembers()

        def drop(path, with_itself=True):
            for known in [known for known in tree if known.startswith(path + "/") or (with_itself and known == path)]:
                del tree[known]
        clean = [(member, os.path.normpath("/" + member.name)) for member in members]
        for _, path in clean:
            parent, name = os.path.split(path)
            if name == ".wh..wh..opq":
                drop(parent.rstrip("/"), False)
            elif name.startswith(".wh."):
                drop(os.path.join(parent, name[4:]))
        for member, path in clean:
            if os.path.basename(path).startswith(".wh."):
                continue
            if member.islnk():
                tree[path] = dict(tree[os.path.normpath("/" + member.linkname)])
                continue
            found = entry(member, tar)
            if path in tree and tree[path]["kind"] == "dir" and found["kind"] != "dir":
                drop(path)
            tree[path] = found
    tree.pop("/", None)


def image(archive):
    """The tree and the config of a docker archive or of an OCI layout in a tar."""
    with tarfile.open(archive) as tar:
        def read(name):
            return tar.extractfile(name)
        names = tar.getnames()
        if "manifest.json" in names:
            manifest = json.load(read("manifest.json"))[0]
            config, layers = manifest["Config"], manifest["Layers"]
        else:
            blob = lambda digest: "blobs/" + digest.replace(":", "/")
            index = json.load(read("index.json"))
            manifest = json.load(read(blob(index["manifests"][0]["digest"])))
            config, layers = blob(manifest["config"]["digest"]), [blob(layer["digest"]) for layer in manifest["layers"]]
        tree = {}
        for layer in layers:
            member = tar.getmember(layer)
            while member.issym():
                member = tar.getmember(os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname)))
            layer_into(tree, tar.extractfile(member))
        config = json.load(read(config))
    run = config.get("config") or {}
    out = {}
    for key in CONFIG_KEYS:
        value = run.get(key)
        if key == "Labels" and value:
            value = {name: text for name, text in value.items() if name != "io.buildah.version"}
        out[key] = None if value in ("", [], {}, None) else value
    return tree, out


def differences(ours, theirs):
    for path in sorted(set(ours[0]) | set(theirs[0])):
        one, other = ours[0].get(path), theirs[0].get(path)
        if one is None or other is None:
            yield path, "missing" if one is None else "there", "there" if one is None else "missing"
            continue
        for key in sorted(set(one) | set(other)):
            if one.get(key) != other.get(key):
                yield f"{path} {key}", one.get(key), other.get(key)
    for key in CONFIG_KEYS:
        if ours[1][key] != theirs[1][key]:
            yield f"config {key}", ours[1][key], theirs[1][key]


class Builder:
    def __init__(self, name, environment, build, save):
        self.name, self.environment, self.build_words, self.save_words = name, environment, build, save

    def run(self, words):
        return subprocess.run(
            words, env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    def build(self, tag, dockerfile, context, arguments, out):
        """The image, or nothing when the build fails, and what was printed."""
        done = self.run([*self.build_words, *arguments, "-t", tag, "-f", str(dockerfile), str(context)])
        if done.returncode:
            return None, done.stdout + done.stderr
        saved = self.run(self.save_words(tag, out))
        if saved.returncode:
            raise SystemExit(f"{self.name} can't save {tag}: {saved.stderr}")
        return image(out), done.stderr


def arguments_of(dockerfile):
    for line in dockerfile.read_text().splitlines():
        if line.startswith("# build: "):
            return line.split()[2:]
    return []


def known_differences():
    known = {}
    for line in (CASES / "differences.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            case, subject, reason = line.split(" | ", 2)
            known[case, subject] = reason
    return known


def main():
    calque = str(pathlib.Path(os.environ.get("CALQUE", "calque")).resolve())
    wanted = sys.argv[1:]
    cases = sorted(path for path in CASES.glob("*.dockerfile") if not wanted or path.stem in wanted)
    known, unused, faults = known_differences(), set(known_differences()), 0
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        write(root / "containers.conf", '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n')
        storage = ["--root", f"{root}/storage", "--runroot", f"{root}/runroot", "--storage-driver", "vfs"]
        buildah = ["buildah", *storage]
        builders = [
            Builder("calque", {"CALQUE_ROOT": f"{root}/calque"}, [calque, "build", "--network", "none"],
                    lambda tag, out: [calque, "save", "-o", str(out), tag]),
            Builder("buildah", {"CONTAINERS_CONF": f"{root}/containers.conf", "BUILDAH_FORMAT": "docker"},
                    [*buildah, "bud", "--isolation", "chroot", "--format", "docker", "--layers", "--pull-never"],
                    lambda tag, out: [*buildah, "push", tag, f"docker-archive:{out}"]),
        ]
        make_context(root / "context")
        base = make_base(root)
        for builder in builders:
            made, said = builder.build("compat-base", base / "Dockerfile", base, [], root / "base.tar")
            (root / "base.tar").unlink(missing_ok=True)
            if made is None:
                raise SystemExit(f"{builder.name} can't build the base: {said}")
        for case in cases:
            results = []
            for builder in builders:
                out = root / f"{builder.name}.tar"
                results.append(builder.build(f"case-{builder.name}", case, root / "context", arguments_of(case), out))
                out.unlink(missing_ok=True)
            (ours, our_words), (theirs, their_words) = results
            found = []
            if ours is None or theirs is None:
                if (ours is None) != (theirs is None):
                    said = lambda made, words: "builds" if made else "fails: " + " ".join(words.split()[-25:])
                    found = [("outcome", said(ours, our_words), said(theirs, their_words))]
            else:
                found = list(differences(ours, theirs))
            unmeant = []
            for subject, one, other in found:
                key = next((key for key in [(case.stem, subject), ("*", subject)] if key in known), None)
                if key:
                    unused.discard(key)
                else:
                    unmeant.append(f"    {subject}: calque {one}, buildah {other}")
            faults += bool(unmeant)
            outcome = "DIFFERS" if unmeant else "same, but as meant" if found else "same"
            if outcome == "same" and ours is None:
                outcome = "same (both refuse it)"
            print(f"{case.stem}: {outcome}", *unmeant, sep="\n", flush=True)
        for builder in builders[1:]:
            builder.run([*buildah, "rmi", "--all", "--force"])
        subprocess.run([calque, "system", "reset", "--force"], env={**os.environ, "CALQUE_ROOT": f"{root}/calque"},
                       capture_output=True)
    if not wanted:
        for case, subject in sorted(unused):
            print(f"differences.txt: `{case} | {subject}` does not occur")
            faults += 1
    print(f"{len(cases)} Dockerfiles, {faults} with differences that are not meant")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
