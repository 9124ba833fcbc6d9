//! A weight tensor read wrongly: a field of its blocks, its type, its rows and columns, its row.

use reference::WeightType;

use super::planes::misreadings;
use super::weights::Reader;
use super::{Answer, Certainty, Evidence, Explanation, Label, No, same};
use reference::exact::ops;

/// A field of the quantised blocks.
pub(super) fn dequantisation(evidence: &Evidence<'_>) -> Answer {
    let reader = Reader::of(evidence)?;
    let kind = reader.weight.kind;
    for misreading in misreadings(kind) {
        let row = |row: usize| {
            let mut bytes = reader.weight.row(row).to_vec();
            bytes.chunks_exact_mut(kind.block_bytes()).for_each(|block| misreading.rewrite(block));
            Some(bytes)
        };
        if reader.open(evidence, kind, &row) == Some(0) {
            let text = format!(
                "`{}` with the {} of {} {}, exactly, {}",
                reader.name,
                misreading.field,
                kind.name(),
                misreading.how,
                evidence.all()
            );
            return Ok(Explanation::new(Label::Dequantisation, text)
                .with("type", kind.name())
                .with("field", &misreading.field)
                .with("read", &misreading.how)
                .with("tensor", &reader.name));
        }
    }
    Err(No::Refuted)
}

/// The bytes as another type, with rows as far apart as either type has them.
pub(super) fn weight_type(evidence: &Evidence<'_>) -> Answer {
    let reader = Reader::of(evidence)?;
    let (own, columns) = (reader.weight.kind, reader.columns());
    let bytes = &reader.weight.bytes;
    for kind in WeightType::ALL.into_iter().filter(|kind| *kind != own) {
        if !columns.is_multiple_of(kind.block_values()) {
            continue;
        }
        let length = columns / kind.block_values() * kind.block_bytes();
        for (stride, words) in
            [(length, "of that type"), (reader.weight.row_bytes(), "of the file")]
        {
            let row =
                |row: usize| bytes.get(row * stride..row * stride + length).map(<[u8]>::to_vec);
            let Some(open) = reader.open(evidence, kind, &row) else { continue };
            let count = evidence.actual.len() - open;
            let mut text = format!(
                "`{}` read as {} in the place of {}, with rows {words}, exactly, \
                 {count} of {count} elements",
                reader.name,
                kind.name(),
                own.name()
            );
            let mut certainty = Certainty::Exact;
            if open > 0 {
                text.push_str(&format!("; {open} need bytes beyond the tensor"));
                certainty = Certainty::ExactInside;
            }
            return Ok(Explanation::new(Label::WeightType, text)
                .with("type", kind.name())
                .with("instead_of", own.name())
                .with("tensor", &reader.name)
                .certain(certainty));
        }
    }
    Err(No::Refuted)
}

/// Rows and columns of blocks exchanged, in reading or in storing.
pub(super) fn transposed(evidence: &Evidence<'_>) -> Answer {
    let reader = Reader::of(evidence)?;
    let weight = &reader.weight;
    let (size, rows) = (weight.kind.block_bytes(), weight.rows);
    let across = weight.columns / weight.kind.block_values();
    let block = |index: usize| &weight.bytes[index * size..][..size];
    let unit = if weight.kind.block_values() == 1 { "values" } else { "blocks" };
    let read = |index: usize| index % across * rows + index / across;
    let stored = |index: usize| index % rows * across + index / rows;
    let forms: [(&str, &dyn Fn(usize) -> usize); 2] = [("read", &read), ("stored", &stored)];
    for (words, place) in forms {
        let row = |row: usize| {
            let places = (row * across..(row + 1) * across).map(place);
            Some(places.flat_map(block).copied().collect())
        };
        if rows > 1 && across > 1 && reader.open(evidence, weight.kind, &row) == Some(0) {
            let text = format!(
                "`{}` {words} with rows and columns of {unit} exchanged, exactly, {}",
                reader.name,
                evidence.all()
            );
            return Ok(Explanation::new(Label::Transposed, text)
                .with("tensor", &reader.name)
                .with("unit", unit));
        }
    }
    if evidence.tap == "embed" { table_transposed(evidence, &reader) } else { Err(No::Refuted) }
}

/// The embedding as `[dimension][token]`, value by value: index `d * vocabulary + token`.
fn table_transposed(evidence: &Evidence<'_>, reader: &Reader<'_>) -> Answer {
    let weight = &reader.weight;
    let (values, size) = (weight.kind.block_values(), weight.kind.block_bytes());
    let tokens = super::operation::tokens(evidence)?;
    let value = |index: usize| {
        let block = &weight.bytes[index / values * size..][..size];
        let one = ops::MatrixBytes { kind: weight.kind, bytes: block, rows: 1, columns: values };
        ops::embed(one, &[0])[index % values]
    };
    let holds = |row: usize| {
        let token = tokens[row] as usize;
        let got = evidence.actual_row(row).iter().enumerate();
        got.into_iter().all(|(d, got)| same(value(d * weight.rows + token), *got))
    };
    if (0..tokens.len()).all(holds) {
        let text = format!(
            "the embedding read at d * {} + token for token * {} + d, exactly, {}",
            weight.rows,
            weight.columns,
            evidence.all()
        );
        return Ok(Explanation::new(Label::Transposed, text)
            .with("tensor", &reader.name)
            .with("unit", "values"));
    }
    Err(No::Refuted)
}

/// The embedding of another token, by one rule for all tokens or token by token.
pub(super) fn table_row(evidence: &Evidence<'_>) -> Answer {
    if evidence.tap != "embed" {
        return Err(No::Idle);
    }
    let reader = Reader::of(evidence)?;
    let weight = &reader.weight;
    let tokens = super::operation::tokens(evidence)?;
    let first_block = ops::MatrixBytes {
        kind: weight.kind,
        bytes: &[],
        rows: 1,
        columns: weight.kind.block_values(),
    };
    let holds = |row: usize, token: usize| {
        let bytes = &weight.row(token)[..weight.kind.block_bytes()];
        let start = ops::embed(ops::MatrixBytes { bytes, ..first_block }, &[0]);
        let equal = |values: &[f32]| {
            values.iter().zip(evidence.actual_row(row)).all(|(one, two)| same(*one, *two))
        };
        equal(&start) && equal(&ops::embed(weight.matrix(), &[token as u32]))
    };
    let mut found = Vec::new();
    for row in evidence.differing_rows() {
        let own = tokens[row] as usize;
        let near = [own + 1, own.wrapping_sub(1), 0].into_iter().filter(|at| *at < weight.rows);
        let token = near.chain(0..weight.rows).find(|token| holds(row, *token));
        found.push((own, token.ok_or(No::Refuted)?));
    }
    let (own, token) = *found.first().ok_or(No::Refuted)?;
    let text = format!(
        "{} of {} rows are those of another token, the first of token {token} for {own}, exactly; \
         the others are equal",
        found.len(),
        evidence.rows()
    );
    Ok(Explanation::new(Label::WrongRow, text)
        .with("token", token)
        .with("instead_of", own)
        .with("tensor", &reader.name))
}
