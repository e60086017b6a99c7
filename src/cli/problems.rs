//! Config problems, drawn under their source lines.

use annotate_snippets::renderer::{DecorStyle, Renderer};
use annotate_snippets::{AnnotationKind, Group, Level, Snippet};

use super::output::{bold, counted, err_has_color, red};
use crate::config::{ConfigSources, Problem, Problems, SourceSpan};
use crate::foreign::escaped;

/// Problems that are shown. Each takes time by the length of its file.
const SHOWN_MAX: usize = 50;

/// The first problems in sequence, and their total number.
pub(super) fn draw(problems: &Problems) -> String {
    let drawn = drawn(problems, err_has_color());
    let total = counted(problems.list.len() as u64, "problem");
    let first = match problems.list.len() > SHOWN_MAX {
        true => format!(", the first {SHOWN_MAX} shown"),
        false => String::new(),
    };
    format!("{drawn}\n\n{total}{first}; nothing was read or sent")
}

/// The first problems in sequence, under their source lines, as `validate` prints them.
#[must_use]
pub fn drawn(problems: &Problems, has_color: bool) -> String {
    let renderer =
        if has_color { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let drawn: Vec<String> =
        shown(problems).map(|problem| draw_one(&renderer, problem, &problems.sources, has_color)).collect();
    drawn.join("\n\n")
}

/// The first problems, one per line, and the number of further ones.
pub(super) fn lines(problems: &Problems) -> Vec<String> {
    let one = |problem: &Problem| {
        let location = location(problem, &problems.sources).map(|location| format!("{location}: "));
        let (location, code) = (location.unwrap_or_default(), problem.code.as_str());
        escaped(&format!("{location}{} [{code}]", problem.message)).into_owned()
    };
    let mut lines: Vec<String> = shown(problems).map(one).collect();
    let more = problems.list.len().saturating_sub(SHOWN_MAX);
    lines.extend((more > 0).then(|| format!("and {}", counted(more as u64, "more problem"))));
    lines
}

/// Code and place of the first problem. A message may quote a value of the config, which may be an identifier.
pub(super) fn first_code(problems: &Problems) -> Option<String> {
    let first = problems.list.first()?;
    let location = location(first, &problems.sources).map(|location| format!(" at {location}"));
    Some(escaped(&format!("{}{}", first.code.as_str(), location.unwrap_or_default())).into_owned())
}

/// `sync.yaml:18:5`.
fn location(problem: &Problem, sources: &ConfigSources) -> Option<String> {
    let span = problem.span?;
    let (line, column) = sources.line_column(span)?;
    Some(format!("{}:{line}:{column}", sources.file(span)?.name))
}

fn shown(problems: &Problems) -> impl Iterator<Item = &Problem> {
    problems.list.iter().take(SHOWN_MAX)
}

fn draw_one(renderer: &Renderer, problem: &Problem, sources: &ConfigSources, has_color: bool) -> String {
    if problem.span.is_none() {
        let hint = problem.hint.as_ref().map(|hint| format!("\n  = help: {}", escaped(hint)));
        let hint = hint.unwrap_or_default();
        let title = format!("error[{}]", problem.code.as_str());
        let title = if has_color { red(&bold(&title)) } else { title };
        return format!("{title}: {}{hint}", escaped(&problem.message));
    }
    let mut group =
        Group::with_title(Level::ERROR.primary_title(problem.message.as_str()).id(problem.code.as_str()));
    if let Some(at) = problem.span {
        let related = problem.related.as_ref();
        let here = related.filter(|(span, _)| span.file == at.file);
        let label = Some(problem.label.as_str()).filter(|label| !label.is_empty());
        group = group.elements(snippet(sources, at, label, here));
        if let Some((span, why)) = related.filter(|(span, _)| span.file != at.file) {
            group = group.elements(snippet(sources, *span, Some(why), None));
        }
    }
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    renderer.render(&[group]).to_string()
}

fn snippet<'a>(
    sources: &'a ConfigSources,
    at: SourceSpan,
    label: Option<&'a str>,
    related: Option<&'a (SourceSpan, String)>,
) -> Option<Snippet<'a, annotate_snippets::Annotation<'a>>> {
    let file = sources.file(at)?;
    let mark = AnnotationKind::Primary.span(visible(&file.text, at));
    let mark = if let Some(label) = label { mark.label(label) } else { mark };
    let snippet = Snippet::source(file.text.as_str()).path(file.name.as_str()).annotation(mark);
    Some(match related {
        Some((span, why)) => {
            snippet.annotation(AnnotationKind::Context.span(visible(&file.text, *span)).label(why.as_str()))
        }
        None => snippet,
    })
}

/// The span on its first line, and at least one character of it: long values are not underlined whole.
fn visible(text: &str, span: SourceSpan) -> std::ops::Range<usize> {
    let range = span.range();
    let part = text.get(range.clone()).unwrap_or_default();
    let line = part.find('\n').unwrap_or(part.len());
    let end = range.start + part[..line].trim_end().len();
    range.start..end.max((range.start + 1).min(text.len()))
}
