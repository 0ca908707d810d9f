//! Chooses what to compute on: the CPU, or a GPU whose libtorch is opened at run time.

use std::sync::OnceLock;

use reelflow_api::error::StageError;
use tch::{Cuda, Device};

/// The device called `cpu`, `cuda`, `cuda:N` or `auto` (a GPU if there is one).
///
/// # Errors
/// Refused if the name is none of these; unavailable if a GPU is asked for and there is none.
pub fn find(stage: &str, name: &str) -> Result<Device, StageError> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => {
            open_cuda_library();
            return Ok(Device::cuda_if_available());
        }
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|number| number.parse::<usize>().ok()),
    };
    let Some(number) = number else {
        return Err(StageError::refused(
            stage,
            format!("there is no device `{name}`; devices are `cpu`, `cuda`, `cuda:N` and `auto`"),
        ));
    };
    let library = open_cuda_library();
    let count = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    if number as i64 >= count {
        let why = library.as_ref().map_or_else(|error| format!("; {error}"), |()| String::new());
        return Err(StageError::unavailable(
            stage,
            format!("device `{name}` is not there: {count} GPUs found{why}; use `auto` or `cpu`"),
        ));
    }
    Ok(Device::Cuda(number))
}

/// What a person wants to know about this part: name, whether it is fine, detail.
#[must_use]
pub fn doctor() -> Vec<(String, bool, String)> {
    let works = std::panic::catch_unwind(|| {
        let x = tch::Tensor::from_slice(&[3.0f32, 4.0]);
        (&x * &x).sum(tch::Kind::Float).double_value(&[])
    });
    let torch = (
        "libtorch".to_owned(),
        works.as_ref().is_ok_and(|value| *value == 25.0),
        format!("{} threads, oneDNN {}", tch::get_num_threads(), yes_no(tch::utils::has_mkldnn())),
    );
    let library = open_cuda_library();
    let count = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    let detail = match (count, library) {
        (0, Err(error)) => format!("none, training runs on the CPU ({error})"),
        (0, Ok(())) => "none, training runs on the CPU".to_owned(),
        (count, _) => format!("{count} found"),
    };
    // No GPU is no fault: the CPU does the same work.
    vec![torch, ("GPU".to_owned(), true, detail)]
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Opens libtorch's CUDA half once, before its first use. The linker leaves it out of the binary because
/// nothing names its symbols; opening it registers its devices, so one binary serves hosts with and
/// without a GPU.
fn open_cuda_library() -> &'static Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(|| {
        #[expect(unsafe_code, reason = "opening a library runs its start-up code; this is the one door")]
        // SAFETY: it is the other half of the libtorch this binary is linked with, found by the same
        // run path; its start-up code only registers devices. It is never closed.
        let library = unsafe { libloading::Library::new("libtorch_cuda.so") };
        library.map(std::mem::forget).map_err(|error| error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_wrong_ones_are_refused_with_a_code() {
        assert_eq!(find("train", "cpu").unwrap(), Device::Cpu);
        assert!(find("train", "auto").is_ok());
        assert_eq!(find("train", "gpu").unwrap_err().code, 78);
        assert_eq!(find("train", "cuda:4096").unwrap_err().code, 69);
    }

    #[test]
    fn libtorch_computes() {
        assert!(doctor()[0].1, "{:?}", doctor());
    }
}
