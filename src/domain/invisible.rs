//! Characters that show nothing. A name of such characters alone cannot be told from no name, and inside of a name they
//! make two names that look the same.

/// Whether a text shows anything.
pub(super) fn has_visible_character(text: &str) -> bool {
    let is_visible =
        |sign: char| !sign.is_whitespace() && !sign.is_control() && !is_invisible(sign);
    text.chars().any(is_visible)
}

/// Returns the first character that does not belong in a name. Joiners, variation selectors and tags are part of emoji and of
/// words in several scripts, so they are allowed beside visible characters.
pub(super) fn disguising_character(name: &str) -> Option<char> {
    name.chars().find(|sign| {
        matches!(
            sign,
            '\u{ad}' // soft hyphen
                | '\u{180e}' // vowel separator
                | '\u{200b}' // zero width space
                | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // directions
                | '\u{2060}'..='\u{2064}' | '\u{206a}'..='\u{206f}' // word joiner, invisible operators, former controls
                | '\u{feff}' // byte order mark
                | '\u{fff9}'..='\u{fffb}' // annotations
        )
    })
}

/// Whether Unicode ignores a character in display (Default_Ignorable_Code_Point), or shows it as a blank.
fn is_invisible(sign: char) -> bool {
    matches!(
        sign,
        '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_texts_are_recognised() {
        for text in [
            "",
            " \t\n",
            "\u{200b}",
            "\u{feff} \u{2060}",
            "\u{ad}",
            "\u{202e}\u{202c}",
            "\u{3164}",
            "\u{7}\u{1b}",
            "\u{fe0f}",
            "\u{200d}\u{200c}",
            "\u{e0041}",
            "\u{a0}\u{3000}",
        ] {
            assert!(!has_visible_character(text), "{text:?}");
        }
        for text in [
            "a",
            "❤\u{fe0f}",
            "👩\u{200d}🚀",
            "می\u{200c}خواهم",
            "\u{301}",
            "東",
        ] {
            assert!(has_visible_character(text), "{text:?}");
            assert_eq!(disguising_character(text), None, "{text:?}");
        }
        for (name, sign) in [
            ("Ada\u{200b}", '\u{200b}'),
            ("\u{202e}adA", '\u{202e}'),
            ("to\u{ad}do", '\u{ad}'),
            ("\u{feff}todo", '\u{feff}'),
        ] {
            assert_eq!(disguising_character(name), Some(sign));
        }
    }
}
