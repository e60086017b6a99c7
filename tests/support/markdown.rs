//! Markdown pages under test: their code blocks, their transcripts, their links.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{OPERATOR_VARIABLES, SYNCLINE, Workspace, files_below, root, run};

/// A fenced code block of a page.
pub(crate) struct CodeBlock<'a> {
    /// The language behind the opening fence.
    pub(crate) language: &'a str,
    /// The lines between the fences.
    pub(crate) text: &'a str,
    /// The comment in the line before, without its marks: `file: sync.yaml`.
    pub(crate) note: &'a str,
    /// Where `text` is in the page.
    pub(crate) place: Range<usize>,
}

/// The code blocks of a page, in order.
pub(crate) fn code_blocks(page: &str) -> Vec<CodeBlock<'_>> {
    let (mut found, mut at, mut open, mut line_before) = (Vec::new(), 0, None, "");
    for line in page.split_inclusive('\n') {
        match (line.trim_end().strip_prefix("```"), open) {
            (Some(language), None) => open = Some((language, at + line.len(), line_before)),
            (Some(_), Some((language, start, note))) => {
                let end = at.saturating_sub(1).max(start);
                found.push(CodeBlock { language, text: &page[start..end], note, place: start..end });
                open = None;
            }
            _ => {}
        }
        let comment = line.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->"));
        line_before = comment.map_or("", str::trim);
        at += line.len();
    }
    assert!(open.is_none(), "a code block is not closed");
    found
}

/// The texts of a page's blocks in this language.
pub(crate) fn blocks_in<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    code_blocks(page).iter().filter(|block| block.language == language).map(|block| block.text).collect()
}

/// Run names, times and durations differ from run to run, and so does a version number: one more is written when a source was
/// too fresh to be identified by its modification time.
pub(crate) fn without_times(text: &str) -> String {
    let (mut out, mut after_version, mut after_took) = (String::new(), false, false);
    // The age of a run that has just ended, on a slow machine.
    let text = text.replace("1 min ago", "just now").replace("2 min ago", "just now");
    for word in text.split_inclusive([' ', '/', '\n']) {
        let bare = word.trim_end_matches([' ', '/', '\n']);
        let core = bare.trim_matches(['(', ')', ',', ':']);
        let is_run = core.len() == 26 && core.as_bytes()[8] == b't' && core.as_bytes()[19] == b'-';
        let is_time = core.len() == 24 && core.ends_with('Z') && core.as_bytes()[10] == b'T';
        let has = |len: usize, sign: u8, at: &[usize]| {
            let is_sign = |index: &usize| core.as_bytes()[*index] == sign;
            core.len() == len && core.as_bytes()[0].is_ascii_digit() && at.iter().all(is_sign)
        };
        let is_date = has(10, b'-', &[4, 7]) || has(5, b':', &[2]);
        let is_version = after_version && bare.parse::<u64>().is_ok();
        let is_duration = after_took && core.parse::<f64>().is_ok();
        (after_version, after_took) = (bare == "version", bare == "took");
        let is_masked = is_version || is_run || is_time || is_date || is_duration;
        out.push_str(if is_masked { "<when>" } else { bare });
        out.push_str(&word[bare.len()..]);
    }
    out
}

/// Copies the repository's example, its use cases and its schema.
pub(crate) fn copy_example(w: &Workspace) {
    let copied = Command::new("cp")
        .arg("-r")
        .args(["sync.yaml", "examples", "schemas"].map(|p| root().join(p)))
        .arg(w.path(""))
        .status();
    assert!(copied.unwrap().success());
}

/// Runs the transcripts of a page in this workspace, and writes its files (`<!-- file: NAME -->`). Returns the page
/// with the real outputs in it; outputs that differ in times only are left as they are.
pub(crate) fn with_real_outputs(w: &Workspace, page: &str) -> String {
    let (mut real, mut last, mut copied_to) = (String::new(), 0, 0);
    for block in code_blocks(page) {
        if let Some(name) = block.note.strip_prefix("file: ") {
            w.write(name, format!("{}\n", block.text));
        }
        if block.language != "console" {
            continue;
        }
        let transcript = real_transcript(w, block.text, &mut last);
        real.push_str(&page[copied_to..block.place.start]);
        real.push_str(&transcript);
        copied_to = block.place.end;
    }
    real.push_str(&page[copied_to..]);
    real
}

fn real_transcript(w: &Workspace, transcript: &str, last: &mut i32) -> String {
    let bin = Path::new(SYNCLINE).parent().unwrap();
    let (mut real, mut lines) = (Vec::new(), transcript.lines().peekable());
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {line}"));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command.replace("$?", &last.to_string())).current_dir(w.path(""));
        shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display())).env("NO_COLOR", "1");
        shell.env("USER", "anna").env("HOSTNAME", "laptop");
        for name in OPERATOR_VARIABLES {
            shell.env_remove(name);
        }
        let found = run(shell);
        *last = found.code;
        let mut shown = Vec::new();
        while let Some(output) = lines.next_if(|line| !line.starts_with("$ ")) {
            shown.push(output);
        }
        let (shown, output) = (shown.join("\n"), found.stdout.trim_end().to_owned());
        real.push(line.to_owned());
        let is_same = without_times(&shown) == without_times(&output);
        real.extend([if is_same { shown } else { output }].into_iter().filter(|text| !text.is_empty()));
    }
    real.join("\n")
}

/// All pages: the README, `docs/`, and the READMEs of the examples.
pub(crate) fn all_pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("SECURITY.md")];
    for folder in ["docs", "examples"] {
        let files = files_below(&root().join(folder));
        pages.extend(files.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "md")));
    }
    pages.sort();
    pages
}

/// The page without its code: no blocks, and nothing between backticks.
pub(crate) fn prose(page: &str) -> String {
    let (mut out, mut is_code) = (String::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            out.extend(line.split('`').step_by(2));
            out.push('\n');
        }
    }
    out
}

/// Targets of the relative links in a page.
pub(crate) fn links(page: &str) -> Vec<String> {
    let text = prose(page);
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://")).map(str::to_owned).collect()
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
pub(crate) fn anchors(page: &str) -> Vec<String> {
    let (mut found, mut is_code) = (Vec::new(), false);
    for line in page.lines() {
        is_code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if is_code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        found.push(kept.collect::<String>().to_lowercase().replace(' ', "-"));
    }
    found
}
