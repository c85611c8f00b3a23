//! The macros of `witgate-sdk`, which re-exports them and has their documentation.

mod component;
mod config;
mod contract;
mod json;

use std::path::Path;

use proc_macro::TokenStream;
use quote::quote;
use syn::parse_macro_input;

/// Makes the crate a component with the hooks named: `export!(MyPlugin: OnRequest, StreamText);`.
///
/// The type implements `Plugin` and the trait of each hook. Besides the exports the macro writes the custom section
/// `witgate:manifest`: name, version and description of the crate, and the schema of the configuration.
#[proc_macro]
pub fn export(input: TokenStream) -> TokenStream {
    let export = parse_macro_input!(input as component::Export);
    export.expand().unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Derives the JSON Schema of a configuration at compile time, for structs and enums that derive `serde::Deserialize`.
///
/// See the trait of the same name in `witgate-sdk` for the attributes.
#[proc_macro_derive(Config, attributes(config, serde))]
pub fn derive_config(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as syn::DeriveInput);
    config::derive(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Expands to the bindings of the contract. For `witgate-sdk` alone.
#[doc(hidden)]
#[proc_macro]
#[expect(clippy::disallowed_methods, reason = "a macro learns where it expands from cargo's variable")]
pub fn bindings(_: TokenStream) -> TokenStream {
    // The place of this crate could be that of another copy, whose build cargo has taken up again.
    let sdk = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let is_inside = Path::new(&sdk).join("wit/plugin.wit").is_file();
    let folder = if is_inside { "wit" } else { "../wit" };
    quote! {
        ::wit_bindgen::generate!({
            path: #folder,
            world: "all-hooks",
            pub_export_macro: true,
            default_bindings_module: "witgate_sdk::wit",
            additional_derives: [PartialEq, Eq],
            additional_derives_ignore: ["opened", "action", "verdict"],
            generate_unused_types: true,
        });
    }
    .into()
}
