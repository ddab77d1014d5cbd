//! Pictures of a topology: as text for a terminal, and as DOT for Graphviz.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
};

use super::{Kind, Stage, Topology};

impl fmt::Display for Topology {
    /// A tree a line a stage, from every stage that nothing feeds; a stage that was drawn already is
    /// named and marked, not drawn again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut drawn = BTreeSet::new();
        for stage in self.stages() {
            if !self.edges().any(|(_, to)| to == stage) {
                self.branch(f, stage, "", "", &mut drawn)?;
            }
        }
        Ok(())
    }
}

impl Topology {
    fn branch<'a>(
        &'a self,
        f: &mut fmt::Formatter<'_>,
        stage: &'a Stage,
        lead: &str,
        indent: &str,
        drawn: &mut BTreeSet<&'a str>,
    ) -> fmt::Result {
        let again = if drawn.insert(&stage.name) { "" } else { "  (above)" };
        let detail = match stage.detail.as_str() {
            "" => String::new(),
            detail => format!("  [{detail}]"),
        };
        writeln!(f, "{lead}{} {}{detail}{again}", stage.kind.label(), stage.name)?;
        if !again.is_empty() {
            return Ok(());
        }
        let next: Vec<&Stage> =
            self.edges().filter(|(from, _)| *from == stage).map(|(_, to)| to).collect();
        for (place, to) in next.iter().enumerate() {
            let is_last = place + 1 == next.len();
            let lead = format!("{indent}{} ", if is_last { "└─►" } else { "├─►" });
            let indent = format!("{indent}{}   ", if is_last { " " } else { "│" });
            self.branch(f, to, &lead, &indent, drawn)?;
        }
        Ok(())
    }

    /// The graph in Graphviz's language, for `dot -Tsvg`.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut dot =
            String::from("digraph flumen {\n  rankdir=LR;\n  node [fontname=\"sans\"];\n");
        for stage in self.stages() {
            let shape = match stage.kind {
                Kind::Source | Kind::Sink => "box",
                Kind::Interceptor | Kind::Operator => "ellipse",
                Kind::Channel => "cds",
                Kind::Topic => "cylinder",
            };
            let label = match stage.detail.as_str() {
                "" => stage.name.clone(),
                detail => format!("{}\n{detail}", stage.name),
            };
            writeln!(dot, "  {} [shape={shape}, label={}];", quoted(&stage.name), quoted(&label))
                .expect("a string takes all");
        }
        for (from, to) in self.edges() {
            writeln!(dot, "  {} -> {};", quoted(&from.name), quoted(&to.name))
                .expect("a string takes all");
        }
        dot.push_str("}\n");
        dot
    }
}

/// A string of Graphviz's language.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fork() -> Topology {
        let mut fork = Topology::default();
        fork.add(Kind::Source, "tail", "logs/*.log");
        fork.add(Kind::Channel, "fast", "");
        fork.add(Kind::Channel, "safe", "");
        fork.add(Kind::Topic, "t", "");
        for channel in ["fast", "safe"] {
            fork.connect("tail", channel);
            fork.connect(channel, "t");
        }
        fork
    }

    #[test]
    fn text_draws_each_stage_once() {
        let text = fork().to_string();
        let wanted = "source tail  [logs/*.log]\n\
                      ├─► channel fast\n\
                      │   └─► topic t\n\
                      └─► channel safe\n    \
                          └─► topic t  (above)\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn dot_quotes_what_it_is_given() {
        let mut topology = Topology::default();
        topology.add(Kind::Topic, "a\"b", "x\\y");
        let dot = topology.to_dot();
        assert!(dot.contains(r#""a\"b" [shape=cylinder, label="a\"b\nx\\y"]"#), "{dot}");
    }
}
