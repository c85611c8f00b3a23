//! The macros of `witgate-sdk`, which re-exports them and has their documentation.

mod component;
mod config;
mod contract;
mod json;

use proc_macro::TokenStream;
use quote::quote;
use syn::parse_macro_input;

use contract::Contract;

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
pub fn bindings(_: TokenStream) -> TokenStream {
    let contract = match Contract::read() {
        Ok(contract) => contract,
        Err(message) => return quote!(compile_error! { #message }).into(),
    };
    let folder = contract.folder.display().to_string();
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
