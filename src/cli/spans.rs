//! Spans for an OpenTelemetry collector. They need the feature `otlp` and `OTEL_EXPORTER_OTLP_ENDPOINT`. Like the log,
//! they contain no secrets and no personal identifiers.

use tracing_subscriber::Registry;
use tracing_subscriber::layer::Layer;

use super::environment::variable;

/// Whether a collector is configured.
fn is_wanted() -> bool {
    let names = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    names.iter().any(|name| variable(name).is_some())
}

#[cfg(feature = "otlp")]
mod sent {
    use std::sync::OnceLock;

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_otlp::SpanExporter;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::Registry;
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::layer::Layer;

    use crate::cli::output;

    static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

    /// The layer that sends spans.
    pub(super) fn layer() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
        // A second installation in the same process fails without effect.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder().with_http().build();
        let exporter = exporter.inspect_err(|error| output::err(&format!("spans are not sent: {error}")));
        let resource = Resource::builder().with_service_name("syncline").build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter.ok()?).with_resource(resource);
        let provider = PROVIDER.get_or_init(|| provider.build());
        let ours = Targets::new().with_target("syncline", tracing::Level::DEBUG);
        Some(
            tracing_opentelemetry::layer().with_tracer(provider.tracer("syncline")).with_filter(ours).boxed(),
        )
    }

    /// Sends the remaining spans.
    pub(super) fn flush() {
        if let Some(provider) = PROVIDER.get()
            && let Err(error) = provider.shutdown()
        {
            output::err(&format!("the last spans were not sent: {error}"));
        }
    }
}

/// The layer that sends spans, if a collector is configured.
#[cfg(feature = "otlp")]
pub(super) fn layer() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    is_wanted().then(sent::layer)?
}

/// `None`: the layer needs the feature `otlp`. Reports a collector that is configured in vain.
#[cfg(not(feature = "otlp"))]
pub(super) fn layer() -> Option<Box<dyn Layer<Registry> + Send + Sync>> {
    if is_wanted() {
        let missing = crate::model::BuildFeature::Otlp.missing("a collector");
        super::output::err(&format!("spans are not sent: {missing}"));
    }
    None
}

/// Sends the remaining spans at the end of the program.
pub(super) fn flush() {
    #[cfg(feature = "otlp")]
    sent::flush();
}
