//! Corpus text, which may hold anything, made fit to be seen.

/// `text` with every character visible: leading and trailing spaces, line ends, controls, and the
/// characters that have no width or turn the reading direction.
pub(crate) fn visible(text: &str) -> String {
    let inner = text.trim_matches(' ');
    let lead = if inner.is_empty() {
        text.len()
    } else {
        text.len() - text.trim_start_matches(' ').len()
    };
    let trail = text.len() - lead - inner.len();
    let mut out = "·".repeat(lead);
    for c in inner.chars() {
        match c {
            '\n' => out.push('⏎'),
            '\t' => out.push('⇥'),
            c if c.is_control() || is_invisible(c) => {
                out.push_str(&format!("⟨U+{:04X}⟩", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push_str(&"·".repeat(trail));
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most about `limit` characters of `text`: its beginning and its end.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let length = text.chars().count();
    if length <= limit {
        return text.into();
    }
    let head = limit * 2 / 3;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - (limit - head)).collect();
    format!("{start}…{end}")
}

/// [`visible`] text of at most about `limit` characters.
pub(crate) fn label(text: &str, limit: usize) -> String {
    // A very long text is cut first, so that showing it costs nothing.
    shorten(&visible(&shorten(text, 4 * limit)), limit)
}

/// A label for Plotly, which reads `<b>`, `<a href>` and entities in every text it draws. Never
/// put corpus text into a template, where `%{x}` would be filled in.
pub(crate) fn plotly_text(text: &str, limit: usize) -> String {
    label(text, limit)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A quoted label for prose.
pub(crate) fn quoted(text: &str) -> String {
    format!("“{}”", label(text, 48))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_named() {
        assert_eq!(visible(" the"), "·the");
        assert_eq!(visible("  "), "··");
        assert_eq!(visible("a b\n"), "a b⏎");
        assert_eq!(
            visible("a\u{202e}b\u{200b}\u{7}"),
            "a⟨U+202E⟩b⟨U+200B⟩⟨U+0007⟩"
        );
    }

    #[test]
    fn long_text_keeps_its_ends() {
        assert_eq!(shorten("abcdefghij", 6), "abcd…ij");
        assert!(label(&"x".repeat(100_000), 40).chars().count() <= 41);
    }

    #[test]
    fn plotly_reads_no_markup() {
        assert_eq!(plotly_text("<b>&lt;", 40), "&lt;b&gt;&amp;lt;");
    }
}
