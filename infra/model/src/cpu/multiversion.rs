//! Kernels compiled for several instruction sets; the best one is chosen at run time.

use std::sync::LazyLock;

/// Instruction sets that a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// Instruction set of the build's target.
    Base,
    /// AVX2 and FMA (x86-64-v3).
    #[cfg(target_arch = "x86_64")]
    V3,
    /// AVX-512 (x86-64-v4).
    #[cfg(target_arch = "x86_64")]
    V4,
}

/// Returns the widest instruction set that this CPU has.
#[inline]
pub(crate) fn isa() -> Isa {
    static ISA: LazyLock<Isa> = LazyLock::new(detect);
    *ISA
}

fn detect() -> Isa {
    #[cfg(target_arch = "x86_64")]
    {
        let v3 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2");
        let v4 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        if v3 && v4 {
            return Isa::V4;
        }
        if v3 {
            return Isa::V3;
        }
    }
    Isa::Base
}

/// Defines a function whose body is compiled for every [`Isa`]. Calls use the widest one the CPU
/// has. Helpers that the body calls must be `#[inline(always)]` to be compiled with it.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi2")]
            fn v4($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,bmi2")]
            fn v3($($arg: $ty),*) $(-> $ret)? {
                body($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "the features were detected on this CPU")]
            match $crate::cpu::isa() {
                // SAFETY: `isa` is V4 only where every feature v4 enables was detected.
                $crate::cpu::Isa::V4 => unsafe { v4($($arg),*) },
                // SAFETY: `isa` is V3 only where every feature v3 enables was detected.
                $crate::cpu::Isa::V3 => unsafe { v3($($arg),*) },
                $crate::cpu::Isa::Base => body($($arg),*),
            }
            #[cfg(not(target_arch = "x86_64"))]
            body($($arg),*)
        }
    };
}
pub(crate) use multiversion;
