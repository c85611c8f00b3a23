//! The bindings of `wit/`. Public because [`export!`](crate::export) expands in the plugin's crate; not an API.

wit_bindgen::generate!({
    path: "../wit",
    world: "text-plugin",
    pub_export_macro: true,
    default_bindings_module: "witgate_sdk::wit",
});
