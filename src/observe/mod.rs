//! What a person sees: progress, metrics, quarantine, contact sheets, the closing summary.
