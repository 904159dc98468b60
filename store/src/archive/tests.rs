//! Archives: what was saved is loaded again, what is wrong is told, and other tools read what is written.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use oci::{Digest, ImageId, Reference};
use serde_json::{Value, json};

use super::{BlobError, LoadError, SaveFormat, Source, load, save, save_layout};
use crate::testing::{Place, facts, image};
use crate::{Image, Store};

/// An image of two layers: files, a link, a removed file.
fn sample(store: &Store) -> (Image, Vec<Reference>) {
    let base = store.draft().unwrap();
    fs::create_dir(base.tree_path().join("etc")).unwrap();
    fs::write(base.tree_path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(base.tree_path().join("big"), vec![b'x'; 300_000]).unwrap();
    let base = base.commit(facts("ADD base")).unwrap();
    let top = store.draft().unwrap();
    fs::write(top.tree_path().join("new"), "new").unwrap();
    fs::hard_link(top.tree_path().join("new"), top.tree_path().join("again")).unwrap();
    std::os::unix::fs::symlink("etc/passwd", top.tree_path().join("link")).unwrap();
    let top = top.commit(facts("COPY . .")).unwrap();
    let image = image(store, &[base, top], "someone");
    let references = ["app:1.0", "localhost:5000/a/b:2"].map(|name| name.parse().unwrap()).to_vec();
    (image, references)
}

fn saved(store: &Store, images: &[(Image, Vec<Reference>)], format: SaveFormat) -> Vec<u8> {
    let mut out = Vec::new();
    save(store, images, format, &mut out).unwrap();
    out
}

fn load_bytes(store: &Store, mut bytes: &[u8]) -> Result<Vec<super::Loaded>, LoadError> {
    load(store, Source::Reader(&mut bytes))
}

fn assert_loaded(
    from: &Store,
    (image, references): &(Image, Vec<Reference>),
    loaded: &[super::Loaded],
    into: &Store,
) {
    assert_eq!(loaded.len(), 1);
    assert_eq!(loaded[0].image.id, image.id);
    assert_eq!(loaded[0].image.config.bytes(), image.config.bytes());
    assert_eq!(loaded[0].references, *references);
    for (old, new) in image.layers.iter().zip(&loaded[0].image.layers) {
        let content = |store: &Store, id| store.content_id(&store.layer(id).unwrap(), None).unwrap();
        assert_eq!(content(from, *old), content(into, *new));
    }
    assert_eq!(crate::file::names_in(&into.layout().tmp()).unwrap().len(), 1, "only the lease file");
}

#[test]
fn what_was_saved_is_loaded_again_in_each_form() {
    let place = Place::new();
    let store = place.open();
    let sample = sample(&store);
    let images = [sample.clone()];
    for format in [SaveFormat::OciArchive, SaveFormat::DockerArchive] {
        let bytes = saved(&store, &images, format);
        assert_eq!(bytes, saved(&store, &images, format), "the same images give the same bytes");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image.tar");
        fs::write(&file, &bytes).unwrap();
        let other = Place::new();
        let into = other.open();
        assert_loaded(&store, &sample, &load(&into, Source::Path(&file)).unwrap(), &into);
        // Again: nothing is unpacked a second time.
        assert_loaded(&store, &sample, &load_bytes(&into, &bytes).unwrap(), &into);
        assert_eq!(into.layers().unwrap().len(), 2);
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(&bytes).unwrap();
        for packed in [zipped.finish().unwrap(), zstd::encode_all(&bytes[..], 1).unwrap()] {
            fs::write(&file, packed).unwrap();
            let other = Place::new();
            let into = other.open();
            assert_loaded(&store, &sample, &load(&into, Source::Path(&file)).unwrap(), &into);
        }
    }
}

#[test]
fn a_layout_folder_takes_more_images_and_names_move() {
    let place = Place::new();
    let store = place.open();
    let sample = sample(&store);
    let second = image(&store, &[], "another");
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    save_layout(&store, std::slice::from_ref(&sample), &layout).unwrap();
    let other = Place::new();
    assert_loaded(&store, &sample, &load(&other.open(), Source::Path(&layout)).unwrap(), &other.open());
    save_layout(&store, &[(second.clone(), vec!["app:1.0".parse().unwrap()])], &layout).unwrap();
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let names: Vec<_> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["annotations"]["io.containerd.image.name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["localhost:5000/a/b:2", "docker.io/library/app:1.0"]);
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    let error = save_layout(&store, &[(second, vec![])], &layout).unwrap_err();
    assert!(matches!(error, super::SaveError::NotALayout { .. }), "{error}");
}

/// A layer tar that isn't what our own writer makes of its tree.
fn foreign_tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [("z", "last first"), ("a", "then the other")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        header.set_cksum();
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI layout of one image with one layer, whose parts a test may spoil.
struct Layout {
    dir: tempfile::TempDir,
}

impl Layout {
    fn new(layer: &[u8], media_type: &str, diff_id: Digest) -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(this.path().join("blobs/sha256")).unwrap();
        fs::write(this.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let config = json!({ "os": "linux", "architecture": "amd64", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [diff_id.to_string()] } });
        let config = this.put(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
        let layer = this.put(layer, media_type);
        this.finish(
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] }),
        );
        this
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn put(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.path().join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    fn finish(&self, manifest: &Value) {
        let manifest = self.put(manifest.to_string().as_bytes(), MANIFEST);
        self.write_index(&[manifest]);
    }

    fn write_index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    fn load(&self, store: &Store) -> Result<ImageId, LoadError> {
        let loaded = load(store, Source::Path(self.path()))?;
        Ok(loaded[0].image.id)
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[test]
fn a_foreign_layer_leaves_as_it_came() {
    let tar = foreign_tar();
    let zipped = zstd::encode_all(&tar[..], 3).unwrap();
    for (bytes, media_type) in [(&tar, LAYER.to_owned()), (&zipped, format!("{LAYER}+zstd"))] {
        let place = Place::new();
        let store = place.open();
        let layout = Layout::new(bytes, &media_type, Digest::of(&tar));
        let id = layout.load(&store).unwrap();
        let image = store.image(id).unwrap();
        let layer = store.layer(image.layers[0]).unwrap();
        let mut out = Vec::new();
        store.write_layer_tar(&layer, &mut out).unwrap();
        assert_eq!(out, tar);
        let saved = saved(&store, &[(image, vec![])], SaveFormat::OciArchive);
        let other = Place::new();
        assert_eq!(load_bytes(&other.open(), &saved).unwrap()[0].image.id, id);
        // Damage is told instead of written under the layer's name.
        fs::write(layer.tree_path().parent().unwrap().join("original"), &zipped[..20]).unwrap();
        assert!(store.write_layer_tar(&layer, &mut Vec::new()).is_err());
    }
}

fn assert_refused(layout: &Layout, expected: impl Fn(&LoadError) -> bool) {
    let place = Place::new();
    let store = place.open();
    let error = layout.load(&store).unwrap_err();
    assert!(expected(&error), "{error:?}");
    assert_eq!(store.images().unwrap().len(), 0);
    assert_eq!(store.layers().unwrap().len(), 0);
    let left = crate::file::names_in(&store.layout().tmp()).unwrap();
    assert!(left.iter().all(|name| name.ends_with(".lease")), "{left:?}");
}

#[test]
fn blobs_that_are_not_what_they_are_called_are_refused() {
    let tar = foreign_tar();
    let layer_path = |layout: &Layout| layout.path().join("blobs/sha256").join(Digest::of(&tar).hex());
    let layout = Layout::new(&tar, LAYER, Digest::of(&tar));
    let mut other = tar.clone();
    other[600] ^= 1;
    fs::write(layer_path(&layout), &other).unwrap();
    assert_refused(&layout, |it| {
        matches!(it, LoadError::Blob(BlobError::Digest { .. }) | LoadError::Apply { .. })
    });
    fs::write(layer_path(&layout), &tar[..1024]).unwrap();
    assert_refused(&layout, |it| matches!(it, LoadError::Blob(BlobError::Size { .. })));
    fs::remove_file(layer_path(&layout)).unwrap();
    assert_refused(&layout, |it| matches!(it, LoadError::Missing { .. }));
    assert_refused(&Layout::new(&tar, LAYER, Digest::of(b"x")), |it| matches!(it, LoadError::DiffId { .. }));
}

#[test]
fn media_types_must_agree() {
    let tar = foreign_tar();
    let refused = |media_type: &str, expected: fn(&LoadError) -> bool| {
        assert_refused(&Layout::new(&tar, media_type, Digest::of(&tar)), expected);
    };
    refused(&format!("{LAYER}+gzip"), |it| matches!(it, LoadError::Compression(_)));
    refused("application/vnd.oci.image.layer.nondistributable.v1.tar", |it| {
        matches!(it, LoadError::NotAnImage { .. })
    });
    let spoiled = |change: &dyn Fn(&mut Value)| {
        let layout = Layout::new(&tar, LAYER, Digest::of(&tar));
        let index: Value =
            serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
        let digest: Digest = index["manifests"][0]["digest"].as_str().unwrap().parse().unwrap();
        let path = layout.path().join("blobs/sha256").join(digest.hex());
        let mut manifest: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        change(&mut manifest);
        layout.finish(&manifest);
        layout
    };
    let body = spoiled(&|it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into());
    assert_refused(&body, |it| matches!(it, LoadError::MediaType { .. }));
    let both = spoiled(&|it| it["manifests"] = json!([]));
    assert_refused(&both, |it| matches!(it, LoadError::Ambiguous { .. }));
    let fewer = spoiled(&|it| it["layers"] = json!([]));
    assert_refused(&fewer, |it| matches!(it, LoadError::LayerCount { layers: 0, diff_ids: 1 }));
    let artifact = spoiled(&|it| it["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into());
    assert_refused(&artifact, |it| matches!(it, LoadError::NotAnImage { .. }));
    let digest = spoiled(&|it| it["config"]["digest"] = "sha256:../../../../etc/passwd".into());
    assert!(digest.load(&Place::new().open()).is_err());
}

#[test]
fn an_image_for_other_machines_only_is_refused() {
    let tar = foreign_tar();
    let layout = Layout::new(&tar, LAYER, Digest::of(&tar));
    let mut index: Value =
        serde_json::from_slice(&fs::read(layout.path().join("index.json")).unwrap()).unwrap();
    let manifest = &mut index["manifests"][0];
    manifest["platform"] = json!({ "os": "linux", "architecture": "s390x" });
    layout.write_index(std::slice::from_ref(manifest));
    assert_refused(&layout, |it| matches!(it, LoadError::Platform { .. }));
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn docker_archives_with_names_of_their_own_are_read_and_hostile_ones_are_not() {
    let layer = foreign_tar();
    let config = json!({ "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).to_string()] } })
    .to_string();
    let manifest = |config: &str, layer: &str| {
        json!([{ "Config": config, "RepoTags": ["app:old", "NOT A NAME"], "Layers": [layer] }]).to_string()
    };
    let place = Place::new();
    let store = place.open();
    let good = manifest("c.json", "abc/layer.tar");
    let files: [(&str, &[u8]); 3] =
        [("abc/layer.tar", &layer), ("c.json", config.as_bytes()), ("manifest.json", good.as_bytes())];
    let loaded = load_bytes(&store, &tar_of(&files)).unwrap();
    assert_eq!(loaded[0].references, ["app:old".parse().unwrap()]);
    for name in ["/etc/passwd", "../../etc/passwd", ""] {
        let text = manifest(name, "abc/layer.tar");
        let error = load_bytes(&store, &tar_of(&[("manifest.json", text.as_bytes())])).unwrap_err();
        assert!(matches!(error, LoadError::UnsafeName { .. }), "{name}: {error}");
    }
    let wrong = format!("{}.json", Digest::of(b"other").hex());
    let text = manifest(&wrong, "abc/layer.tar");
    let files: [(&str, &[u8]); 2] = [(&wrong, config.as_bytes()), ("manifest.json", text.as_bytes())];
    let error = load_bytes(&store, &tar_of(&files)).unwrap_err();
    assert!(matches!(error, LoadError::Blob(BlobError::Digest { .. })), "{error}");
    let huge = vec![b' '; (4 << 20) + 1];
    let error = load_bytes(&store, &tar_of(&[("manifest.json", &huge)])).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error}");
    for junk in [&b""[..], b"no archive", &tar_of(&[("README", b"x")])] {
        let error = load_bytes(&store, junk).unwrap_err();
        assert!(matches!(error, LoadError::NotAnArchive { .. } | LoadError::File(_)), "{error:?}");
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn paths_and_contents(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                pending.push(path);
            } else if kind.is_symlink() {
                found.insert(name, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
            } else {
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
#[ignore = "root: runs skopeo and umoci"]
fn root_skopeo_and_umoci_read_what_is_saved_and_the_reverse() {
    let place = Place::new();
    let store = place.open();
    let (image, _) = sample(&store);
    let images = [(image.clone(), vec!["app:1.0".parse().unwrap()])];
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    save_layout(&store, &images, Path::new(&path("layout"))).unwrap();
    for (name, format) in [("oci.tar", SaveFormat::OciArchive), ("docker.tar", SaveFormat::DockerArchive)] {
        save(&store, &images, format, &mut File::create(path(name)).unwrap()).unwrap();
    }
    let forms = [
        format!("oci:{}:1.0", path("layout")),
        format!("oci-archive:{}:1.0", path("oci.tar")),
        format!("docker-archive:{}", path("docker.tar")),
    ];
    for (number, form) in forms.iter().enumerate() {
        let config = run("skopeo", &["inspect", "--config", "--raw", form]);
        assert_eq!(config.trim_end().as_bytes(), image.config.bytes(), "{form}");
        // And back, as skopeo writes each form: it compresses layers in a layout.
        let targets = [
            format!("docker-archive:{}:app:1.0", path(&format!("copy-{number}.tar"))),
            format!("oci-archive:{}:app:1.0", path(&format!("copy-{number}.oci.tar"))),
            format!("oci:{}:app:1.0", path(&format!("copy-{number}"))),
        ];
        for target in targets {
            run("skopeo", &["copy", "--insecure-policy", form, &target]);
            let file = target.split(':').nth(1).unwrap();
            let other = Place::new();
            let into = other.open();
            let loaded = load(&into, Source::Path(Path::new(file))).unwrap();
            assert_eq!(loaded[0].image.config.value(), image.config.value(), "{target}");
            assert_eq!(loaded[0].references, ["app:1.0".parse().unwrap()], "{target}");
            let again = saved(&into, &[(loaded[0].image.clone(), vec![])], SaveFormat::OciArchive);
            assert_eq!(load_bytes(&store, &again).unwrap()[0].image.id, loaded[0].image.id);
        }
    }
    run("umoci", &["unpack", "--image", &format!("{}:1.0", path("layout")), &path("bundle")]);
    let mut expected = BTreeMap::new();
    for layer in &image.layers {
        expected.extend(paths_and_contents(&store.layer(*layer).unwrap().tree_path()));
    }
    assert_eq!(paths_and_contents(&dir.path().join("bundle/rootfs")), expected);
}
