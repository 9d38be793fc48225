//! The languages whose word endings are removed.

use std::str::FromStr;

use rust_stemmers::Algorithm;

macro_rules! languages {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// Language whose word endings are removed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Language {
            /// Words are not changed.
            None,
            $(#[doc = $name] $variant),+
        }

        impl Language {
            /// Names in the configuration.
            pub const NAMES: &[&str] = &["none", $($name),+];

            /// Returns the name in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { Self::None => "none", $(Self::$variant => $name),+ }
            }

            /// Returns the stemmer of the language, if it has one.
            pub(super) fn algorithm(self) -> Option<Algorithm> {
                match self { Self::None => None, $(Self::$variant => Some(Algorithm::$variant)),+ }
            }
        }

        impl FromStr for Language {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    "none" => Ok(Self::None),
                    $($name => Ok(Self::$variant),)+
                    _ => Err(format!("unknown language {name:?}; known: {}", Self::NAMES.join(", "))),
                }
            }
        }
    };
}

languages! {
    Arabic = "arabic", Danish = "danish", Dutch = "dutch", English = "english", Finnish = "finnish",
    French = "french", German = "german", Greek = "greek", Hungarian = "hungarian", Italian = "italian",
    Norwegian = "norwegian", Portuguese = "portuguese", Romanian = "romanian", Russian = "russian",
    Spanish = "spanish", Swedish = "swedish", Tamil = "tamil", Turkish = "turkish",
}
