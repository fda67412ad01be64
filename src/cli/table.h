// SPDX-License-Identifier: Apache-2.0
// Table: rows of cells as aligned columns.
#pragma once

#include <string>
#include <vector>

namespace skink::cli {

using Row = std::vector<std::string>;

/// Each row on a line, columns padded to the widest cell and parted by three blanks; the last column is not padded.
/// Cells are taken to be printable already.
std::string format_table(const std::vector<Row>& rows);

}  // namespace skink::cli
