//! Rebuilds when an embedded migration or profile is added, which `include_str!` alone does not notice.
fn main() {
    println!("cargo:rerun-if-changed=src/store/migrations");
    println!("cargo:rerun-if-changed=fhir-profiles");
}
