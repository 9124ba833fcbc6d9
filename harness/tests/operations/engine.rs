//! The engine's operations one by one on plain slices: upload, launch, read back.

use std::sync::{LazyLock, Mutex, PoisonError};

use bytemuck::Pod;
use engine::device::{Buffer, Device, View};
use engine::gguf::TensorType;
use engine::kernels::{self, FixedPoint, Kernels};
use engine::{DeviceChoice, HostBuild, Rotary};
use proptest::prelude::*;
use reference::{Activations, KvType, WeightType};

use crate::devices;

/// One way to run the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Build {
    /// The device.
    pub(crate) device: DeviceChoice,
    /// Which of the host's builds.
    pub(crate) host: Option<HostBuild>,
    /// How many threads run blocks on the host.
    pub(crate) threads: usize,
    /// Whether tuned kernels run where there are some.
    pub(crate) tuned: bool,
}

impl Build {
    /// A build of the host.
    pub(crate) fn host(host: HostBuild, threads: usize) -> Self {
        Self { device: DeviceChoice::Host, host: Some(host), threads, tuned: false }
    }

    /// Every build that this CPU can run and every GPU, tuned where that is another thing.
    pub(crate) fn all() -> Vec<Self> {
        let usable =
            if devices::host_is_asked_for() { Device::usable_host_builds() } else { vec![] };
        let hosts = usable.into_iter().map(|host| Self::host(host, 2));
        let gpu = |&device| Self { device, host: None, threads: 1, tuned: false };
        let plain: Vec<Self> = hosts.chain(devices::gpus().iter().map(gpu)).collect();
        let waves = |build: &&Self| build.host.is_none_or(|host| host.wave_lanes() > 1);
        let tuned: Vec<Self> =
            plain.iter().filter(waves).map(|build| Self { tuned: true, ..*build }).collect();
        [plain, tuned].concat()
    }

    /// Any of them, the host's with one and with two threads.
    pub(crate) fn any() -> impl Strategy<Value = Self> {
        (prop::sample::select(Self::all()), 1_usize..=2)
            .prop_map(|(build, threads)| Self { threads, ..build })
    }

    /// Opened once: a case would otherwise start threads of its own.
    fn device(self) -> Device {
        static OPENED: LazyLock<Mutex<Vec<(Build, Device)>>> = LazyLock::new(Mutex::default);
        let key = Self { tuned: false, ..self };
        let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, device)) = opened.iter().find(|(build, _)| *build == key) {
            return device.clone();
        }
        let device = Device::open(self.device, self.host, self.threads).unwrap();
        opened.push((key, device.clone()));
        device
    }
}

/// The kernels of a build, and memory for one case.
pub(crate) struct Engine {
    device: Device,
    kernels: Kernels,
    kv: KvType,
    tuned: bool,
}

impl Engine {
    pub(crate) fn new(build: Build, activations: Activations, kv: KvType) -> Self {
        let device = build.device();
        let digits = match activations {
            Activations::I24 => engine::Activations::I24,
            Activations::I16 => engine::Activations::I16,
            Activations::I8 => engine::Activations::I8,
        };
        let cache = match kv {
            KvType::F32 => engine::KvType::F32,
            KvType::F16 => engine::KvType::F16,
        };
        let kernels = Kernels::load(&device, digits, cache).unwrap();
        Self { device, kernels, kv, tuned: build.tuned }
    }

    fn upload<T: Pod>(&self, name: &str, values: &[T]) -> Buffer {
        self.device.upload(name, values).unwrap()
    }

    fn allocate<T: Pod>(&self, count: usize) -> Buffer {
        self.device.allocate::<T>("out", count as u64).unwrap()
    }

    /// Section 5: digits `[rows][digits][width]`, scales, sums of groups.
    pub(crate) fn quantise(
        &self,
        x: &[f32],
        width: usize,
        block: usize,
        group: usize,
    ) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
        let quantised = self.quantised(&self.upload("x", x), x.len(), width, (block, group));
        let digits = x.len() * self.kernels.activations().digit_count();
        (
            read(&quantised[0], digits),
            read(&quantised[1], x.len() / block),
            read(&quantised[2], x.len() / group),
        )
    }

    fn quantised(
        &self,
        x: &Buffer,
        count: usize,
        width: usize,
        (block, group): (usize, usize),
    ) -> [Buffer; 3] {
        let digits = self.allocate::<i8>(count * self.kernels.activations().digit_count());
        let scales = self.allocate::<f32>(count / block);
        let sums = self.allocate::<f32>(count / group);
        let input = kernels::Quantise { x: x.all(), width: size(width), rows: size(count / width) };
        let buffers = [digits, scales, sums];
        let out = fixed_point(&buffers, block, group);
        self.kernels.quantise(input, out).unwrap();
        buffers
    }

    /// Sections 5 to 7: `[rows of x][outputs]`.
    pub(crate) fn product(
        &self,
        kind: WeightType,
        weights: &[u8],
        x: &[f32],
        width: usize,
    ) -> Vec<f32> {
        let (rows, row_bytes) = (x.len() / width, width / kind.block_values() * kind.block_bytes());
        let outputs = weights.len() / row_bytes;
        let (weights, x_device) = (self.upload("weights", weights), self.upload("x", x));
        let out = self.allocate::<f32>(rows * outputs);
        let (width_32, rows_32, outputs_32) = (size(width), size(rows), size(outputs));
        let kind_of = tensor_type(kind);
        match kernels::activation_block(kind_of) {
            None => {
                let input = kernels::ProductFloat {
                    weights: weights.all(),
                    kind: kind_of,
                    x: x_device.all(),
                    outputs: outputs_32,
                    width: width_32,
                    rows: rows_32,
                };
                self.kernels.product_float(input, out.all()).unwrap();
            }
            Some(block) => {
                let group = if kind == WeightType::Q2K { 16 } else { 32 };
                let fixed = self.quantised(&x_device, x.len(), width, (block as usize, group));
                let input = kernels::Product {
                    weights: weights.all(),
                    kind: kind_of,
                    x: fixed_point(&fixed, block as usize, group),
                    outputs: outputs_32,
                    width: width_32,
                    rows: rows_32,
                };
                self.quantised_product(input, out.all());
            }
        }
        read(&out, rows * outputs)
    }

    fn quantised_product(&self, input: kernels::Product<'_>, out: View<'_, f32>) {
        if !self.tuned {
            return self.kernels.product(input, out).unwrap();
        }
        let kernels::Product { weights, kind, x, outputs, width, rows } = input;
        if rows > 2 {
            // Both ways of the tiles: whole rows, and chunks spread over blocks of threads.
            return match kernels::split_chunks(&input, self.kernels.multiprocessors()) {
                Some(chunks) if rows % 2 == 1 => {
                    let values = usize::try_from(kernels::split_values(&input)).unwrap();
                    let workspace = self.allocate::<f32>(values);
                    self.kernels.product_tiles_split(input, chunks, workspace.all(), out).unwrap();
                }
                _ => self.kernels.product_tiles(input, out).unwrap(),
            };
        }
        let input = kernels::ProductWave { kind, x, width, rows };
        let matrix = kernels::WaveMatrix { weights, outputs, out };
        self.kernels.product_wave(input, &[matrix]).unwrap();
        if self.kernels.serves_product_stream(kind, width, rows) {
            let bits = || {
                let mut values = vec![0.0_f32; usize::try_from(outputs).unwrap()];
                out.read(&mut values).unwrap();
                values.into_iter().map(f32::to_bits).collect::<Vec<u32>>()
            };
            let waves = bits();
            self.kernels.product_stream(input, &[matrix]).unwrap();
            assert_eq!(bits(), waves, "both ways of one row, {kind}");
        }
    }

    /// Section 3: a row of `width` values for each token.
    pub(crate) fn embed(
        &self,
        kind: WeightType,
        table: &[u8],
        width: usize,
        tokens: &[u32],
    ) -> Vec<f32> {
        let vocabulary = table.len() / (width / kind.block_values() * kind.block_bytes());
        let (table, ids) = (self.upload("table", table), self.upload("tokens", tokens));
        let out = self.allocate::<f32>(tokens.len() * width);
        let input = kernels::Embed {
            table: table.all(),
            kind: tensor_type(kind),
            tokens: ids.all(),
            vocabulary: size(vocabulary),
            hidden: size(width),
            rows: size(tokens.len()),
        };
        self.kernels.embed(input, out.all()).unwrap();
        read(&out, tokens.len() * width)
    }

    /// Section 4.
    pub(crate) fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
        let (x_device, weights) = (self.upload("x", x), self.upload("weight", weight));
        let out = self.allocate::<f32>(x.len());
        let input = kernels::RmsNorm {
            x: x_device.all(),
            weight: weights.all(),
            width: size(weight.len()),
            rows: size(x.len() / weight.len()),
            epsilon,
        };
        self.kernels.rms_norm(input, out.all()).unwrap();
        read(&out, x.len())
    }

    /// Section 8: rows of `heads` heads from `first_position`.
    pub(crate) fn rope(
        &self,
        rotary: Rotary<'_>,
        x: &[f32],
        (heads, head_size): (usize, usize),
        first_position: usize,
    ) -> Vec<f32> {
        let rows = x.len() / (heads * head_size);
        let tables = rotary.tables(first_position + rows);
        let (cosine, sine) = (self.upload("cos", &tables.cosine), self.upload("sin", &tables.sine));
        let x_device = self.upload("x", x);
        let position_buffer = self.upload("position", &[size(first_position)]);
        let out = self.allocate::<f32>(x.len());
        let input = kernels::Rope {
            x: x_device.all(),
            cosine: cosine.all(),
            sine: sine.all(),
            heads: size(heads),
            head_size: size(head_size),
            rotated: size(rotary.dimensions),
            rows: size(rows),
            position: position(&position_buffer, first_position),
        };
        self.kernels.rope(input, out.all()).unwrap();
        read(&out, x.len())
    }

    /// Sections 9 and 10; keys and values are written in two pieces, as two calls would.
    pub(crate) fn attention(&self, case: reference::exact::ops::Attention<'_>) -> Vec<f32> {
        assert_eq!(case.kv, self.kv);
        match self.kv {
            KvType::F32 => self.attention_in::<f32>(case),
            KvType::F16 => self.attention_in::<u16>(case),
        }
    }

    fn attention_in<E: Pod>(&self, case: reference::exact::ops::Attention<'_>) -> Vec<f32> {
        let reference::exact::ops::Attention {
            heads,
            kv_heads,
            head_size,
            queries,
            keys,
            values,
            ..
        } = case;
        let positions = keys.len() / (kv_heads * head_size);
        let rows = queries.len() / (heads * head_size);
        let context = positions.next_multiple_of(64) + 64;
        let cached = context * kv_heads * head_size;
        let (cached_keys, cached_values) = (self.allocate::<E>(cached), self.allocate::<E>(cached));
        let cut = positions / 3;
        for (first, count) in [(0, cut), (cut, positions - cut)] {
            if count == 0 {
                continue;
            }
            let part = |rows: &[f32]| {
                let width = kv_heads * head_size;
                self.upload("rows", &rows[first * width..][..count * width])
            };
            let (k, v) = (part(keys), part(values));
            let written = self.upload("position", &[size(first)]);
            let input = kernels::KvWrite {
                k: k.all(),
                v: v.all(),
                kv_heads: size(kv_heads),
                head_size: size(head_size),
                rows: size(count),
                position: position(&written, first),
                context: size(context),
            };
            let (keys, values) = (cached_keys.all::<E>(), cached_values.all());
            self.kernels.kv_write(input, keys, values).unwrap();
        }
        let (q, out) = (self.upload("q", queries), self.allocate::<f32>(queries.len()));
        let read_from = self.upload("position", &[size(positions - rows)]);
        let input = kernels::Attention {
            q: q.all(),
            keys: cached_keys.all::<E>(),
            values: cached_values.all(),
            heads: size(heads),
            kv_heads: size(kv_heads),
            head_size: size(head_size),
            rows: size(rows),
            position: position(&read_from, positions - rows),
            context: size(context),
        };
        if self.tuned && rows <= 2 {
            self.attention_split(input, out.all());
        } else if self.tuned && self.kernels.serves_attention_tiles(size(head_size)) {
            self.kernels.attention_tiles(input, out.all()).unwrap();
        } else {
            self.kernels.attention(input, out.all()).unwrap();
        }
        read(&out, queries.len())
    }

    fn attention_split<E: Pod>(&self, input: kernels::Attention<'_, E>, out: View<'_, f32>) {
        let kernels::Attention { heads, head_size, rows, position, .. } = input;
        let parts = (rows * heads * kernels::chunks_count(position.largest, rows)) as usize;
        let (maxima, totals) = (self.allocate::<f32>(parts), self.allocate::<f32>(parts));
        let sums = self.allocate::<f32>(parts * head_size as usize);
        let counters = kernels::arrivals_count(heads * head_size, rows) as usize;
        let arrivals = self.upload("arrivals", &vec![0_u32; counters]);
        let (maxima, totals, sums) = (maxima.all(), totals.all(), sums.all());
        let chunks = kernels::Chunks { maxima, totals, sums, arrivals: arrivals.all() };
        self.kernels.attention_split(input, None, chunks, out, None).unwrap();
    }

    /// Section 11.
    pub(crate) fn swiglu(&self, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let (gate_device, up_device) = (self.upload("gate", gate), self.upload("up", up));
        let out = self.allocate::<f32>(gate.len());
        let count = size(gate.len());
        self.kernels.swiglu(gate_device.all(), up_device.all(), out.all(), count).unwrap();
        read(&out, gate.len())
    }

    /// Section 11.
    pub(crate) fn residual(&self, x: &[f32], branch: &[f32]) -> Vec<f32> {
        let (x_device, branch_device) = (self.upload("x", x), self.upload("branch", branch));
        let out = self.allocate::<f32>(x.len());
        let count = size(x.len());
        self.kernels.residual(x_device.all(), branch_device.all(), out.all(), count).unwrap();
        read(&out, x.len())
    }
}

fn fixed_point(buffers: &[Buffer; 3], block: usize, group: usize) -> FixedPoint<'_> {
    let [digits, scales, sums] = buffers;
    let (digits, scales, sums) = (digits.all(), scales.all(), sums.all());
    FixedPoint { digits, scales, sums, block: size(block), group: size(group) }
}

fn read<T: Pod>(buffer: &Buffer, count: usize) -> Vec<T> {
    let mut values = vec![T::zeroed(); count];
    buffer.all().read(&mut values).unwrap();
    values
}

fn size(count: usize) -> u32 {
    u32::try_from(count).unwrap()
}

fn tensor_type(kind: WeightType) -> TensorType {
    TensorType::all().find(|ours| ours.name() == kind.name()).unwrap()
}

fn position(buffer: &Buffer, first: usize) -> kernels::Position<'_> {
    kernels::Position { first: buffer.all(), largest: size(first) }
}
