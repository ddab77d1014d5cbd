//! One Rust file, taken apart just far enough: code, tests, texts and comments told from each other.

/// A file. `code`, `tests`, `texts` and `comments` have as many bytes and lines as the file, with
/// blanks where something else stands, so that a place in one is the same place in all.
pub(super) struct Source {
    pub(super) path: String,
    /// Without comments, contents of literals, and tests.
    pub(super) code: String,
    /// The code of tests.
    pub(super) tests: String,
    /// Contents of string literals.
    pub(super) texts: String,
    pub(super) comments: String,
}

impl Source {
    /// Takes the file apart; `path` is relative to the checkout.
    pub(super) fn new(path: &str, text: &str) -> Source {
        let Parts { code, texts, comments } = split(text.as_bytes());
        let is_tests = path.starts_with("tests/") || path.contains("/tests/");
        let all_tests = is_tests || path.ends_with("/tests.rs");
        let (code, tests) = if all_tests { (blank(&code), code) } else { cut_tests(&code) };
        let owned = |bytes: Vec<u8>| String::from_utf8(bytes).expect("whole characters are moved");
        Source {
            path: path.into(),
            code: owned(code),
            tests: owned(tests),
            texts: owned(texts),
            comments: owned(comments),
        }
    }

    /// A complaint about what stands at byte `at`.
    pub(super) fn complain(&self, at: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, self.line(at))
    }

    /// Number of the line of byte `at`, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.code.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// The identifiers and numbers of `code`, with their places.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = 0;
    std::iter::from_fn(move || {
        let start = rest + code[rest..].find(is_part)?;
        let end = code[start..].find(|c| !is_part(c)).map_or(code.len(), |len| start + len);
        rest = end;
        Some((start, &code[start..end]))
    })
}

/// Places where `phrase` stands between things that are no part of a word.
pub(super) fn phrases<'a>(code: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(phrase).map(|(at, _)| at).filter(move |at| {
        let after = &code[at + phrase.len()..];
        let whole_end = !phrase.ends_with(is_part) || !after.starts_with(is_part);
        let whole_start = !phrase.starts_with(is_part) || !code[..*at].ends_with(is_part);
        whole_start && whole_end
    })
}

/// End of the block whose `{` is the first at or after `at`: the byte after its `}`. `None` where a
/// `;` comes first.
pub(super) fn block_end(code: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0;
    let mut brackets = 0_usize;
    for (at, byte) in code.iter().enumerate().skip(at) {
        match byte {
            // The `;` of an array's type is none.
            b'[' | b'(' if depth == 0 => brackets += 1,
            b']' | b')' if depth == 0 => brackets = brackets.saturating_sub(1),
            b';' if depth == 0 && brackets == 0 => return None,
            b'{' => depth += 1,
            b'}' if depth <= 1 => return Some(at + 1),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    Some(code.len())
}

/// The code without its `#[cfg(test)]` items, and those.
fn cut_tests(code: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const MARK: &[u8] = b"#[cfg(test)]";
    let (mut kept, mut tests) = (code.to_vec(), blank(code));
    let mut from = 0;
    while let Some(at) = find(&kept[from..], MARK).map(|at| from + at) {
        let end = block_end(code, at + MARK.len()).unwrap_or(at + MARK.len());
        move_bytes(&mut kept, &mut tests, at, end);
        from = end;
    }
    (kept, tests)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn blank(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }).collect()
}

fn move_bytes(from: &mut [u8], to: &mut [u8], start: usize, end: usize) {
    to[start..end].copy_from_slice(&from[start..end]);
    let blanks = blank(&from[start..end]);
    from[start..end].copy_from_slice(&blanks);
}

struct Parts {
    code: Vec<u8>,
    texts: Vec<u8>,
    comments: Vec<u8>,
}

/// Tells code, string contents and comments apart.
fn split(text: &[u8]) -> Parts {
    let mut code = text.to_vec();
    let (mut texts, mut comments) = (blank(text), blank(text));
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(b"//") {
            let end = at + find(rest, b"\n").unwrap_or(rest.len());
            move_bytes(&mut code, &mut comments, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let end = at + comment_len(rest);
            move_bytes(&mut code, &mut comments, at, end);
            at = end;
        } else if let Some((open, close)) = raw_string(text, at) {
            move_bytes(&mut code, &mut texts, open, close);
            at = close + 1;
        } else if text[at] == b'"' {
            let close = string_end(text, at + 1);
            move_bytes(&mut code, &mut texts, at + 1, close);
            at = close + 1;
        } else if text[at] == b'\'' {
            at = after_quote(&mut code, at);
        } else {
            at += 1;
        }
    }
    Parts { code, texts, comments }
}

/// Bytes of the block comment, which may hold others, that `text` begins with.
fn comment_len(text: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(text.len())
}

/// Start and end of the contents of a raw string whose `r` stands at `at`.
fn raw_string(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let part_of_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let inside_word = at > 0 && part_of_word(text[at - 1]) && !matches!(text[at - 1], b'b' | b'c');
    if text[at] != b'r' || inside_word {
        return None;
    }
    let hashes = text[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let open = at + 1 + hashes;
    if text.get(open) != Some(&b'"') {
        return None;
    }
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let end = find(&text[open + 1..], &close).map_or(text.len(), |len| open + 1 + len);
    Some((open + 1, end))
}

fn string_end(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && text[at] != b'"' {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    at.min(text.len())
}

/// Blanks the character literal at `at`, if it is one and no lifetime; the place after it.
fn after_quote(code: &mut [u8], at: usize) -> usize {
    let end = match code.get(at + 1) {
        Some(b'\\') => {
            code[at + 3..].iter().position(|byte| *byte == b'\'').map(|len| at + 3 + len)
        }
        // At most four bytes of one character, then the closing quote.
        Some(_) => (at + 2..=at + 5).find(|end| code.get(*end) == Some(&b'\'')).filter(|end| {
            std::str::from_utf8(&code[at + 1..*end]).is_ok_and(|text| text.chars().count() == 1)
        }),
        None => None,
    };
    let Some(end) = end else { return at + 1 };
    code[at + 1..end].fill(b' ');
    end + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_texts_and_comments_are_told_apart() {
        let text = r##"let a = "x // \" y"; // z "q"
/* a /* b */ c */ let b = r#"raw " x"# + b"é" + '"' + '\'' + 'é'; fn f<'a>(x: &'a str) {}"##;
        let source = Source::new("a.rs", text);
        let words: Vec<_> = words(&source.code).map(|(_, word)| word).collect();
        assert_eq!(words.join(" "), "let a let b r b fn f a x a str");
        assert_eq!(source.texts.split_whitespace().collect::<String>(), "x//\\\"yraw\"xé");
        assert_eq!(source.comments.split_whitespace().collect::<String>(), "//z\"q\"/*a/*b*/c*/");
    }

    #[test]
    fn tests_are_cut_out_of_the_code() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { { } }\n}\n#[cfg(test)]\nmod t;\nfn c() {}";
        let source = Source::new("runtime/src/a.rs", text);
        assert!(source.code.contains("fn a") && source.code.contains("fn c"));
        assert!(!source.code.contains("fn b") && source.tests.contains("fn b"));
        assert_eq!(source.line(source.code.find("fn c").unwrap()), 8);
        assert!(Source::new("runtime/src/a/tests.rs", text).tests.contains("fn a"));
        assert!(Source::new("tests/a.rs", text).tests.contains("fn a"));
    }

    #[test]
    fn phrases_are_whole_words() {
        let found: Vec<_> = phrases("std::fs::read; my_std::fs; std::fsx", "std::fs").collect();
        assert_eq!(found, [0]);
    }
}
