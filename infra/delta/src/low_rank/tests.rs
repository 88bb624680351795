use proptest::prelude::*;
use safetensors::tensor::TensorView;

use super::*;

const RANK: usize = 2;
const CONFIG: &[u8] = br#"{"r": 2, "lora_alpha": 3.0}"#;

/// Writes a safetensors file of f32 tensors.
fn file(tensors: &[(&str, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(.., values)| {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (*name, view)
    });
    safetensors::serialize(views, None).unwrap()
}

fn adapter(input: usize, output: usize, a: &[f32], b: &[f32]) -> Vec<u8> {
    file(&[
        (
            "base_model.model.x.q.lora_A.weight",
            vec![RANK, input],
            a.to_vec(),
        ),
        (
            "base_model.model.x.q.lora_B.weight",
            vec![output, RANK],
            b.to_vec(),
        ),
    ])
}

fn values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-2.0_f32..2.0, count)
}

fn matrices() -> impl Strategy<Value = (usize, usize, [Vec<f32>; 4])> {
    (1..40_usize, 1..9_usize).prop_flat_map(|(input, output)| {
        let parts = [input * output, RANK * input, output * RANK, input].map(values);
        (Just(input), Just(output), parts)
    })
}

proptest! {
    #[test]
    fn a_merged_weight_is_the_base_and_the_scaled_product(
        (input, output, [base, a, b, norm]) in matrices(),
    ) {
        let whole = file(&[
            ("x.q.weight", vec![output, input], base.clone()),
            ("x.norm.weight", vec![input], norm.clone()),
        ]);
        let merged = merge(&whole, &adapter(input, output, &a, &b), CONFIG, Precision::F32).unwrap();
        let merged = SafeTensors::deserialize(&merged).unwrap();
        prop_assert_eq!(floats(&merged.tensor("x.norm.weight").unwrap()), norm);
        let found = floats(&merged.tensor("x.q.weight").unwrap());
        for row in 0..output {
            for column in 0..input {
                let mut sum = 0.0_f32;
                for rank in 0..RANK {
                    sum = a[rank * input + column].mul_add(b[row * RANK + rank], sum);
                }
                let at = row * input + column;
                prop_assert_eq!(found[at].to_bits(), (base[at] + sum * 1.5).to_bits());
            }
        }
    }

    #[test]
    fn any_number_of_threads_gives_the_same_bits(seed in any::<u32>()) {
        // Above the size at which the work is shared.
        let (rank, width, rows) = (64, 512, 300);
        let mut state = seed | 1;
        let mut draw = |count: usize| -> Vec<f32> {
            let next = |_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state as f32 / u32::MAX as f32) - 0.5
            };
            (0..count).map(next).collect()
        };
        let (base, a, b) = (draw(rows * width), draw(rank * width), draw(rows * rank));
        let of = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| onto(&base, &a, &b, rank, 0.25))
        };
        prop_assert_eq!(of(1), of(3));
    }
}

#[test]
fn without_a_change_every_bit_stays_and_values_are_rounded_after_the_sum() {
    let base = file(&[("x.q.weight", vec![1, 2], vec![-0.0, 1.0])]);
    let none = adapter(2, 1, &[1.0; 4], &[0.0; 2]);
    let merged = merge(&base, &none, CONFIG, Precision::F32).unwrap();
    let merged = SafeTensors::deserialize(&merged).unwrap();
    let found = floats(&merged.tensor("x.q.weight").unwrap());
    assert_eq!(
        found.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
        [0x8000_0000, 0x3f80_0000]
    );

    // 1 + 2^-9 + 2^-16: above half a unit of bf16 (2^-8 above 1) only once it is summed.
    let some = adapter(2, 1, &[0.0, 2.0_f32.powi(-16), 0.0, 0.0], &[2.0 / 3.0, 0.0]);
    let base = file(&[("x.q.weight", vec![1, 2], vec![0.0, 1.0 + 2.0_f32.powi(-8)])]);
    let merged = merge(&base, &some, CONFIG, Precision::Bf16).unwrap();
    let merged = SafeTensors::deserialize(&merged).unwrap();
    let view = merged.tensor("x.q.weight").unwrap();
    assert_eq!(view.dtype(), Dtype::BF16);
    assert_eq!(floats(&view)[1], 1.0 + 2.0_f32.powi(-7));
}

#[test]
fn what_cannot_be_merged_says_why() {
    let base = file(&[("x.q.weight", vec![1, 2], vec![1.0, 1.0])]);
    let good = adapter(2, 1, &[1.0; 4], &[1.0; 2]);
    let halved = file(&[(
        "base_model.model.x.q.lora_A.weight",
        vec![2, 2],
        vec![1.0; 4],
    )]);
    let foreign = file(&[
        (
            "base_model.model.x.k.lora_A.weight",
            vec![2, 2],
            vec![1.0; 4],
        ),
        (
            "base_model.model.x.k.lora_B.weight",
            vec![1, 2],
            vec![1.0; 2],
        ),
    ]);
    let cases: [(&[u8], &[u8], &str); 6] = [
        (&good[..20], CONFIG, "no safetensors file"),
        (&halved, CONFIG, "one factor of two"),
        (&foreign, CONFIG, "belongs to no weight"),
        (
            &adapter(2, 2, &[1.0; 4], &[1.0; 4]),
            CONFIG,
            "do not fit x.q.weight [1, 2]",
        ),
        (&good, b"{}", "adapter_config.json"),
        (
            &good,
            br#"{"r": 2, "lora_alpha": 3, "use_rslora": true}"#,
            "another kind",
        ),
    ];
    for (adapter, config, says) in cases {
        let error = merge(&base, adapter, config, Precision::F32)
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
}
