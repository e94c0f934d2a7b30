//! The restic format: what `cto_backups.repository` does for every byte and every node.

use pyo3::prelude::*;

mod bench;
mod blob;
mod broken;
mod buffers;
mod check;
mod decode;
mod faults;
mod index;
mod names;
mod needs;
mod pack;
mod restore;
mod seal;
mod standing;
mod tally;
mod time;
mod tree;

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<seal::Sealer>()?;
    module.add_class::<index::BlobIndex>()?;
    module.add_class::<index::Claims>()?;
    module.add_class::<needs::Needs>()?;
    module.add_class::<pack::Pack>()?;
    module.add_class::<check::Proof>()?;
    module.add_class::<bench::Bench>()?;
    module.add_class::<tree::Nodes>()?;
    module.add_class::<restore::Folders>()?;
    module.add_function(wrap_pyfunction!(restore::write_parts, module)?)?;
    module.add_function(wrap_pyfunction!(standing::compare_entries, module)?)?;
    module.add_function(wrap_pyfunction!(standing::take_over, module)?)?;
    module.add_function(wrap_pyfunction!(blob::open_blob, module)?)?;
    module.add_function(wrap_pyfunction!(blob::compress_file, module)?)?;
    module.add_function(wrap_pyfunction!(blob::expand_file, module)?)?;
    module.add_function(wrap_pyfunction!(check::check_pack, module)?)?;
    module.add_function(wrap_pyfunction!(check::header_room, module)?)?;
    module.add_function(wrap_pyfunction!(decode::decode_tree, module)?)?;
    module.add_function(wrap_pyfunction!(decode::tree_references, module)?)?;
    module.add_function(wrap_pyfunction!(buffers::return_freed_memory, module)?)?;
    module.add_function(wrap_pyfunction!(faults::inject_fault, module)?)?;
    module.add_function(wrap_pyfunction!(index::index_json, module)?)?;
    module.add_function(wrap_pyfunction!(pack::read_header, module)?)?;
    module.add_function(wrap_pyfunction!(time::format_ns, module)?)?;
    module.add_function(wrap_pyfunction!(time::parse_ns, module)?)?;
    module.add_function(wrap_pyfunction!(tree::put_files, module)?)
}
