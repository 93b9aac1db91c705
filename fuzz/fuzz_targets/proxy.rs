//! libFuzzer's way into the target `proxy`. Built without a fuzzer, it runs the files it is given.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lvs_fuzz::target("proxy").expect("a target")(bytes));

#[cfg(not(fuzzing))]
fn main() {
    for path in std::env::args().skip(1) {
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        lvs_fuzz::target("proxy").expect("a target")(&bytes);
        println!("{path}: ok");
    }
}
