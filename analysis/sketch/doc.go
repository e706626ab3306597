// Package sketch holds the two mergeable summaries that cells and tests keep
// of values and of identities: [Histogram], with exact counts at fixed edges,
// and [HLL], an estimate of how many distinct ones there were.
//
// Both merge by addition or maximum, so the order of merges never matters, and
// both have one encoding for one state. Values of their types are not safe for
// concurrent use, and a copy shares memory with its original.
package sketch

import "errors"

// ErrCorrupt is wrapped by every error of an UnmarshalBinary: the bytes are not
// what a MarshalBinary of this package has returned. The receiver is then
// unchanged.
var ErrCorrupt = errors.New("sketch: corrupt encoding")
