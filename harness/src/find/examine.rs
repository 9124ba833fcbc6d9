//! After a divergence: the cache is read, the operation runs alone, its weights are compared.

use std::cell::RefCell;
use std::sync::Arc;

use engine::gguf::File;
use reference::KvType;
use reference::operation::Operations;

use super::cache::Cached;
use super::inputs::{self, inputs};
use super::judgement::{Judgement, WeightDefect};
use super::library::RunLibrary;
use super::search::{Block, Found, Search};
use crate::compare::rows;
use crate::diagnose::{self, Diagnosis, Evidence, Repeats};
use crate::run::lane::Lane;
use crate::sides::question::{Answer, OperationInputs, Question};

/// How often the operation runs alone.
const RUNS: usize = 5;

/// What is needed to ask both sides.
pub struct Means<'a> {
    /// The engine in its thread.
    pub engine: &'a mut Lane,
    /// The reference's operations one by one.
    pub operations: &'a mut Operations,
    /// The file as the engine reads it, which is what its weights are compared with.
    pub file: &'a File,
    /// How activations become integers.
    pub activations: reference::Activations,
    /// How keys and values are kept.
    pub kv: KvType,
}

/// What an examination brought.
pub struct Examination {
    /// Where it is: the cache's rows, if they differ before attention reads them.
    pub found: Found,
    /// What the operation reads.
    pub inputs: Arc<OperationInputs>,
    /// Who is to blame.
    pub judgement: Judgement,
    /// The tensor that was compared with the file, if the operation reads one.
    pub weight_checked: Option<String>,
    /// Why.
    pub diagnosis: Diagnosis,
}

/// Examines the first tap that differs.
pub fn examine(found: &Found, search: &Search, means: &mut Means<'_>) -> Examination {
    let mut found = found.clone();
    let cached = (found.block.tap == "attn_out")
        .then(|| Cached::read(&found, search, means.engine, means.kv))
        .flatten();
    if let Some(cached) = &cached {
        found.block = if cached.own_differ() { cached.own() } else { cached.earlier() };
    }
    let layers = means.operations.config().layers;
    let mut inputs = inputs_of(&found.block, search, layers);
    // What stores the rows of this pass is innocent where it stores them right alone: something
    // wrote over them then, as over those of earlier passes.
    let mut overwritten = cached.as_ref().is_some_and(|cached| !cached.own_differ());
    if let Some(cached) = cached.as_ref().filter(|cached| !overwritten && cached.earlier_differ()) {
        let (alone, _) = run_alone(&found.block, &inputs, means.engine);
        overwritten = alone.is_ok_and(|alone| equal(&alone, &found.block.expected));
        if overwritten {
            found.block = cached.earlier();
            inputs = inputs_of(&found.block, search, layers);
        }
    }
    let block = &found.block;
    let tied = means.operations.config().tied;
    let tensor = inputs::weight(&block.tap, block.layer, tied);
    let compared = tensor.as_ref().and_then(|tensor| weight_defect(tensor, means));
    let (alone, repeats) = run_alone(block, &inputs, means.engine);
    let judgement = match (overwritten, alone, compared.clone()) {
        (true, ..) => Judgement::CacheOverwritten,
        (_, Ok(alone), Some(Some(defect))) if repeats.answers == 1 => {
            drop(alone);
            Judgement::Weights(defect)
        }
        (_, alone, _) => judge(block, alone, repeats),
    };
    let mut diagnosis = diagnosis(&found, search, &judgement, repeats, means);
    let elsewhere = cached.filter(|_| !overwritten).and_then(|cached| cached.stored_elsewhere());
    diagnosis.explanations.splice(0..0, elsewhere);
    let weight_checked = tensor.filter(|_| compared.is_some());
    Examination { found, inputs, judgement, weight_checked, diagnosis }
}

/// What the operation of a block reads.
fn inputs_of(block: &Block, search: &Search, layers: usize) -> Arc<OperationInputs> {
    let name = (&*block.tap, block.layer);
    Arc::new(inputs(search.kept(), name, layers, (block.positions(), &block.tokens)))
}

fn judge(block: &Block, alone: Result<Vec<f32>, String>, repeats: Repeats) -> Judgement {
    let Repeats { runs, answers, elements_differing } = repeats;
    match alone {
        Err(reason) => Judgement::Untold { reason },
        Ok(_) if answers > 1 => Judgement::NotDeterministic { runs, answers, elements_differing },
        Ok(alone) if equal(&alone, &block.expected) => Judgement::InputGuilty { runs },
        Ok(alone) => Judgement::OperationGuilty { reproduces: equal(&alone, &block.actual), runs },
    }
}

fn equal(one: &[f32], two: &[f32]) -> bool {
    one.len() == two.len() && one.iter().zip(two).all(|(one, two)| rows::same(*one, *two))
}

/// The operation alone, several times: its first answer, or why there is none.
fn run_alone(
    block: &Block,
    inputs: &Arc<OperationInputs>,
    engine: &mut Lane,
) -> (Result<Vec<f32>, String>, Repeats) {
    let mut different: Vec<Vec<f32>> = Vec::new();
    let mut unstable = vec![false; block.expected.len()];
    let mut repeats = Repeats { runs: 0, answers: 0, elements_differing: 0 };
    for _ in 0..RUNS {
        let inputs = Arc::clone(inputs);
        let (tap, layer) = (block.tap.to_string(), block.layer);
        let rows = match engine.ask(Question::Operation { tap, layer, inputs }) {
            Ok(Answer::Rows(rows)) => rows,
            Ok(_) => return (Err("this side runs no operation alone".to_owned()), repeats),
            Err(error) => return (Err(error.to_string()), repeats),
        };
        repeats.runs += 1;
        if different.iter().any(|seen| equal(seen, &rows)) {
            continue;
        }
        if let Some(first) = different.first() {
            for ((one, two), unstable) in first.iter().zip(&rows).zip(&mut unstable) {
                *unstable |= !rows::same(*one, *two);
            }
        }
        different.push(rows);
    }
    repeats.answers = different.len();
    repeats.elements_differing = unstable.iter().filter(|unstable| **unstable).count();
    (Ok(different.swap_remove(0)), repeats)
}

/// The first byte of a tensor that is not the file's; nothing at all where it cannot be read.
fn weight_defect(tensor: &str, means: &mut Means<'_>) -> Option<Option<WeightDefect>> {
    let question = Question::Weight { tensor: tensor.to_owned() };
    let Ok(Answer::Weight(Some(actual))) = means.engine.ask(question) else { return None };
    let info = means.file.find_tensor(tensor)?;
    let expected = means.file.bytes(info);
    if expected.len() != actual.len() {
        return None;
    }
    let differing = || (0..actual.len()).filter(|&at| expected[at] != actual[at]);
    Some(differing().next().map(|offset_bytes| {
        let block_bytes = info.kind.block_bytes() as usize;
        let columns = info.dimensions.first().copied().unwrap_or(1);
        let row_blocks = (columns / info.kind.block_values()).max(1) as usize;
        let block = offset_bytes / block_bytes;
        WeightDefect {
            tensor: tensor.to_owned(),
            row: block / row_blocks,
            block: block % row_blocks,
            offset_bytes,
            expected_byte: expected[offset_bytes],
            actual_byte: actual[offset_bytes],
            differing_bytes: differing().count(),
        }
    }))
}

fn diagnosis(
    found: &Found,
    search: &Search,
    judgement: &Judgement,
    repeats: Repeats,
    means: &mut Means<'_>,
) -> Diagnosis {
    let config = means.operations.config().clone();
    let (activations, kv) = (means.activations, means.kv);
    let block = &found.block;
    // Rows of earlier passes are no rows of this one.
    let (pass, tokens) = match judgement {
        Judgement::CacheOverwritten => (block.positions(), &block.tokens),
        _ => (found.pass.clone(), &found.tokens),
    };
    // What the cache was given, before it was narrowed: a wrong rounding shows against that only.
    let given = match &*block.tap {
        "keys" => search.kept().rows("k_rope", block.layer, block.positions()),
        "values" => search.kept().rows("v", block.layer, block.positions()),
        _ => None,
    };
    let library = RunLibrary {
        kept: search.kept(),
        block,
        kv,
        operations: RefCell::new(means.operations),
        engine: RefCell::new(means.engine),
    };
    let evidence = Evidence {
        tap: block.tap.clone(),
        layer: block.layer,
        phase: found.phase,
        step: found.step,
        first_position: block.first_position,
        tokens: (tokens.len() == pass.len()).then(|| tokens.clone()),
        pass_positions: pass,
        width: block.width,
        expected: block.expected.clone(),
        actual: block.actual.clone(),
        config,
        activations,
        kv,
        repeats: (repeats.runs > 0).then_some(repeats),
        alone_reproduces: match judgement {
            Judgement::OperationGuilty { reproduces, .. } => Some(*reproduces),
            Judgement::InputGuilty { .. } => Some(false),
            Judgement::Weights(_) => Some(true),
            _ => None,
        },
        library: &library,
    };
    let diagnosis = diagnose::diagnose(&evidence);
    let Some(expected) = given.filter(|_| diagnosis.first().is_none()) else { return diagnosis };
    let narrowed = diagnose::diagnose(&Evidence { expected, ..evidence });
    if narrowed.first().is_some() { narrowed } else { diagnosis }
}
