//! Components that no SDK would make, from a few lines of text and an edited contract.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A module with `lifecycle` and `on-tick`; its `init` is content with everything.
pub(super) const TICKING: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "witgate:plugin/lifecycle@0.1.0#init") (param i32 i32) (result i32) i32.const 16)
    (func (export "witgate:plugin/on-tick@0.1.0#tick") (param i64)))"#;

/// A module whose `authenticate` refuses with bytes that are no UTF-8.
///
/// Source: the canonical ABI of the component model: `result<_, rejection>` in memory is its case, then, aligned to four
/// bytes, the status and three pairs of pointer and length.
pub(super) const MUMBLING: &str = r#"(module
    (memory (export "memory") 1)
    (data (i32.const 32768) "\01\00\00\00" "\93\01\00\00" "\40\80\00\00" "\02\00\00\00"
        "\40\80\00\00" "\02\00\00\00" "\00\00\00\00" "\00\00\00\00")
    (data (i32.const 32832) "\ff\fe")
    (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "witgate:plugin/lifecycle@0.1.0#init") (param i32 i32) (result i32) i32.const 16)
    (func (export "witgate:plugin/authenticate@0.1.0#handle")
        (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) i32.const 32768))"#;

/// Makes a component of a module in text, with the imports and exports of a world, after the contract was edited.
#[track_caller]
pub(super) fn component(module: &str, world: &str, edit: impl Fn(String) -> String) -> Vec<u8> {
    let contract = include_str!("../../../wit/plugin.wit");
    let contract = edit(format!("{contract}\nworld test {{ {world} }}\n"));
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", &contract).expect("the edited contract is one");
    let world = resolve.select_world(&[package], Some("test")).expect("it has this world");
    let mut module = wat::parse_str(module).expect("the module is one");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("a module takes a section");
    let encoder = ComponentEncoder::default().validate(true).module(&module);
    encoder.and_then(|mut encoder| encoder.encode()).expect("the module has what its world says")
}
