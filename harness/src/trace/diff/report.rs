//! A comparison of two traces as people read it.

use std::fmt;

use engine::gguf::Shown;

use super::{Diff, DiffVerdict, Evidence, Finding, Parting};
use crate::event::Stopped;
use crate::trace::{Ending, Trace};

/// A comparison, with the traces it is of.
pub struct Report<'a> {
    /// The comparison.
    pub diff: &'a Diff,
    /// A and B, with the names of their files.
    pub traces: [(&'a str, &'a Trace); 2],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, (name, trace)) in ["A", "B"].into_iter().zip(self.traces) {
            writeln!(f, "{letter}          {name}: {}", facts(trace))?;
        }
        let diff = self.diff;
        writeln!(f, "evidence   {}", self.evidence())?;
        let (bits, statistics) = (diff.pairs_by_bits, diff.pairs_by_statistics);
        write!(f, "paired     {bits} by bits, {statistics} by statistics")?;
        if diff.pairs_incomparable > 0 {
            write!(f, ", {} not judged: other elements covered", diff.pairs_incomparable)?;
        }
        writeln!(f, "; {} of them differ", diff.pairs_differing)?;
        for count in &diff.unpaired {
            let (which, reason) = (count.which, count.reason.words());
            let (line, first) = (count.first_line, &count.first);
            writeln!(
                f,
                "unpaired   {:>5} of {which}: {reason}; line {line}, {first}",
                count.records
            )?;
        }
        match &diff.verdict {
            DiffVerdict::Agrees => {
                write!(f, "verdict    AGREES: {} rows have equal bits", diff.pairs_by_bits)
            }
            DiffVerdict::Diverges(finding) => write!(f, "verdict    DIVERGES: {finding}"),
            DiffVerdict::Inconclusive(doubt) => write!(f, "verdict    INCONCLUSIVE: {doubt}"),
        }
    }
}

/// Whose trace it is, and how much of it there is.
fn facts(trace: &Trace) -> String {
    let side = &trace.header.side;
    let model = match &trace.header.model {
        Some(model) => {
            let hash = model.sha256.get(..16).unwrap_or("");
            format!("{} sha256 {hash}", Shown(&model.name))
        }
        None => "model not said".to_owned(),
    };
    let end = match trace.ending {
        Ending::Whole(Stopped::Interrupted) => ", interrupted".to_owned(),
        Ending::Whole(Stopped::Failed) => ", its side failed".to_owned(),
        Ending::Whole(_) => String::new(),
        Ending::Early { cut_bytes: 0 } => ", ended early".to_owned(),
        Ending::Early { cut_bytes } => {
            format!(", ended early ({cut_bytes} bytes of a cut line dropped)")
        }
    };
    format!(
        "{} on {}, {}; {model}; {} rows{end}",
        side.implementation.escape_debug(),
        side.device.escape_debug(),
        side.build.escape_debug(),
        trace.records.len()
    )
}

impl Report<'_> {
    fn evidence(&self) -> String {
        let [(_, one), (_, two)] = self.traces;
        if self.diff.evidence == Evidence::Bits {
            let contract = one.header.contract.as_ref();
            let words = contract.map_or(String::new(), |contract| {
                let (activations, kv) = (Shown(&contract.activations), Shown(&contract.kv));
                format!(": activations {activations}, cache {kv}")
            });
            return format!("bits, both hash whole rows under one contract{words}");
        }
        let why = match (&one.header.contract, &two.header.contract) {
            (Some(_), Some(_)) => "one of them has no hashes of whole rows",
            (None, Some(_)) => "A is not of the contract's arithmetic",
            (Some(_), None) => "B is not of the contract's arithmetic",
            (None, None) => "neither is of the contract's arithmetic",
        };
        format!("statistics, {why}: they can show a divergence and never prove agreement")
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        match (self.line_a, self.line_b) {
            (Some(a), Some(b)) => write!(f, " (line {a} of A, {b} of B)")?,
            (Some(a), None) => write!(f, " (line {a} of A)")?,
            (None, Some(b)) => write!(f, " (line {b} of B)")?,
            (None, None) => {}
        }
        match &self.difference {
            Parting::Bits { hash_a, hash_b, element, differing_count } => {
                write!(f, ": A hashes {hash_a}, B {hash_b}")?;
                let Some(element) = element else { return Ok(()) };
                write!(
                    f,
                    "; [{}]: A {} ({})",
                    element.index, element.expected, element.expected_bits
                )?;
                write!(f, ", B {} ({})", element.actual, element.actual_bits)?;
                let Some(count) = differing_count else { return Ok(()) };
                write!(f, "; {count} elements differ")
            }
            Parting::Length { a, b } => write!(f, ": A has {a} values, B {b}"),
            Parting::NonFinite { what, a, b } => write!(f, ": A has {a} {what} values, B {b}"),
            Parting::Figure { name, a, b, limit } => {
                write!(f, ": the {name} is {a} in A, {b} in B, further than {limit}")
            }
            Parting::Top1 { a, b, gap, limit } => {
                write!(f, ": top-1 is {a} in A, {b} in B, at gap {gap} over {limit}")
            }
            Parting::Missing { only_in } => write!(f, ": only in {only_in}"),
            Parting::OtherToken { a, b } => {
                write!(f, ": A ran token {a} there, B token {b}")
            }
        }
    }
}
