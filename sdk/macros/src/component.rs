//! `export!`: the glue between a plugin's type and the exports of its component.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, Token, Type};

use crate::{contract, json};

/// The hooks: the trait of the SDK, and the interface of the contract.
const HOOKS: [(&str, &str); 10] = [
    ("Authenticate", "authenticate"),
    ("OnRequest", "on-request"),
    ("OnRoute", "on-route"),
    ("OnUpstreamRequest", "on-upstream-request"),
    ("OnResponse", "on-response"),
    ("StreamText", "stream-text"),
    ("StreamEvents", "stream-events"),
    ("OnError", "on-error"),
    ("OnComplete", "on-complete"),
    ("OnTick", "on-tick"),
];

/// `MyPlugin: OnRequest, StreamText`.
pub(crate) struct Export {
    plugin: Type,
    hooks: Vec<Ident>,
}

impl Parse for Export {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let plugin = input.parse()?;
        if input.is_empty() {
            return Err(input.error("name the plugin's hooks: `export!(MyPlugin: OnRequest, StreamText);`"));
        }
        input.parse::<Token![:]>()?;
        let hooks = Punctuated::<Ident, Token![,]>::parse_terminated(input)?;
        if hooks.is_empty() {
            return Err(input.error("a plugin has at least one hook: `export!(MyPlugin: OnRequest);`"));
        }
        Ok(Self { plugin, hooks: hooks.into_iter().collect() })
    }
}

impl Export {
    pub(crate) fn expand(&self) -> syn::Result<TokenStream> {
        let interfaces = self.interfaces()?;
        self.glue(&interfaces).map_err(|message| syn::Error::new_spanned(&self.plugin, message))
    }

    /// The interfaces of the hooks, each once.
    fn interfaces(&self) -> syn::Result<Vec<&'static str>> {
        let mut interfaces = Vec::new();
        for hook in &self.hooks {
            let known = HOOKS.iter().find(|(name, _)| hook == name);
            let &(_, interface) = known.ok_or_else(|| syn::Error::new(hook.span(), unknown(hook)))?;
            if interfaces.contains(&interface) {
                return Err(syn::Error::new(hook.span(), format!("`{hook}` is named twice")));
            }
            interfaces.push(interface);
        }
        Ok(interfaces)
    }

    fn glue(&self, interfaces: &[&str]) -> Result<TokenStream, String> {
        let (plugin, hooks) = (&self.plugin, &self.hooks);
        let types = contract::component_type(interfaces)?;
        let types_len = types.len();
        let types = Literal::byte_string(&types);
        let section = format!("component-type:witgate-sdk:{}", env!("CARGO_PKG_VERSION"));
        let manifest = manifest_head(contract::version()?);
        let version = contract::version()?.replace('.', "_");
        let exports = ["lifecycle"].iter().chain(interfaces).map(|interface| {
            let module = format_ident!("{}", interface.replace('-', "_"));
            let export = format_ident!("__export_witgate_plugin_{module}_{version}_cabi");
            quote! {
                ::witgate_sdk::wit::exports::witgate::plugin::#module::#export!(
                    Component with_types_in ::witgate_sdk::wit::exports::witgate::plugin::#module
                );
            }
        });
        Ok(quote! {
            const _: () = {
                const fn has_its_hooks<T: ::witgate_sdk::Plugin #(+ ::witgate_sdk::#hooks)*>() {}
                has_its_hooks::<#plugin>();
            };
            // Natively too, so that `cargo test` finds what is wrong with the schema.
            const _: usize = ::witgate_sdk::glue::len(
                ::witgate_sdk::glue::schema::<<#plugin as ::witgate_sdk::Plugin>::Config>(),
            );
            #[cfg(target_family = "wasm")]
            const _: () = {
                ::std::thread_local! {
                    static PLUGIN: ::std::cell::OnceCell<#plugin> = const { ::std::cell::OnceCell::new() };
                }
                impl ::witgate_sdk::glue::Placed for #plugin {
                    fn place() -> &'static ::std::thread::LocalKey<::std::cell::OnceCell<Self>> {
                        &PLUGIN
                    }
                }
                type Component = ::witgate_sdk::glue::Component<#plugin>;
                #(#exports)*
                const MANIFEST_PARTS: &[::witgate_sdk::glue::Part] = &[
                    ::witgate_sdk::glue::Part::Text(#manifest),
                    ::witgate_sdk::glue::Part::Nested(
                        ::witgate_sdk::glue::schema::<<#plugin as ::witgate_sdk::Plugin>::Config>(),
                    ),
                    ::witgate_sdk::glue::Part::Text("}"),
                ];
                #[unsafe(link_section = "witgate:manifest")]
                static MANIFEST: [u8; ::witgate_sdk::glue::len(MANIFEST_PARTS)] =
                    ::witgate_sdk::glue::flat(MANIFEST_PARTS);
                #[unsafe(link_section = #section)]
                static TYPES: [u8; #types_len] = *#types;
            };
        })
    }
}

fn unknown(hook: &Ident) -> String {
    let names: Vec<&str> = HOOKS.iter().map(|(name, _)| *name).collect();
    format!("`{hook}` is no hook; the hooks are {}", names.join(", "))
}

/// The manifest up to its schema.
#[expect(
    clippy::disallowed_methods,
    reason = "a macro learns of the crate it expands in from cargo's variables"
)]
fn manifest_head(version: &str) -> String {
    let text = |name| json::string(&std::env::var(name).unwrap_or_default());
    format!(
        "{{\"name\":{},\"version\":{},\"description\":{},\"contract\":{},\"schema\":",
        text("CARGO_PKG_NAME"),
        text("CARGO_PKG_VERSION"),
        text("CARGO_PKG_DESCRIPTION"),
        json::string(version)
    )
}

#[cfg(test)]
mod tests {
    use super::{Export, HOOKS};
    use crate::contract;

    #[track_caller]
    fn check_error(input: &str, expected: &str) {
        let error = syn::parse_str::<Export>(input).and_then(|export| export.expand()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_is_wrong_with_the_line_is_said() {
        check_error(
            "A",
            "unexpected end of input, name the plugin's hooks: `export!(MyPlugin: OnRequest, StreamText);`",
        );
        check_error(
            "A:",
            "unexpected end of input, a plugin has at least one hook: `export!(MyPlugin: OnRequest);`",
        );
        check_error("A: OnRequest, OnRequest", "`OnRequest` is named twice");
        let names: Vec<&str> = HOOKS.iter().map(|(name, _)| *name).collect();
        check_error("A: on_request", &format!("`on_request` is no hook; the hooks are {}", names.join(", ")));
    }

    #[test]
    fn every_hook_of_the_contract_can_be_named() {
        let hooks: Vec<&str> = HOOKS.iter().map(|(_, interface)| *interface).collect();
        assert!(!contract::component_type(&hooks).unwrap().is_empty());
        assert_eq!(contract::hooks(), hooks);
    }
}
