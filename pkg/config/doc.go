// Package config tells a node what it should be.
//
// Four layers, each over the one before it:
//
//	defaults  <  TOML file  <  MERKLE_KV_<SECTION>_<KEY>  <  flags
//	                           MERKLE_KV_<SECTION>_<KEY>_FILE (secrets only)
//
// One table, Keys, says of every key its type, unit, range, meaning, whether it
// is secret, whether it can change while the node runs, and whether it has an
// effect yet. Names of environment variables, flags, checks and CONFIGURATION.md
// are made from that table, so they cannot disagree.
//
// What must hold:
//   - Nothing that somebody wrote is ignored. An unknown key, an unknown
//     MERKLE_KV_ variable or a value of another type is an error.
//   - All problems come in one *Error, one a line, each with the place where
//     the value came from, what is wrong with it, and what would be valid.
//   - No message, listing or log shows a secret, a wrong one included.
//   - Lists replace lists; they are never merged across layers.
//   - What Load returns is complete: what is derived (the client identifier from
//     node_id, the admin port from the client port, the embedded default's
//     broker) has been derived, and its origin says so.
package config
