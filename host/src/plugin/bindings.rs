//! The contract in `wit/` as Rust; generated, and nothing else.

wasmtime::component::bindgen!({
    world: "all-hooks",
    path: "../wit",
    imports: {
        "witgate:plugin/kv": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    with: { "witgate:plugin/exchange.call": crate::plugin::state::CallHandle },
});

pub(crate) use self::exports::witgate::plugin as hooks;
pub(crate) use self::witgate::plugin as imports;
