package sketch

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

const (
	histogramVersion = 1

	// An octave has 16 edges: a bucket is 4.4 % wide, so a margin of some
	// per cent is a shift by whole buckets.
	perOctave = 16
	minOctave = -10
	maxOctave = 30
	overflow  = (maxOctave-minOctave)*perOctave + 1

	// maxCount bounds what one encoding can claim, so that sums of decoded
	// histograms stay within an int64.
	maxCount = 1 << 53
)

// mantissas are 2^(k/16), correctly rounded. They are written out because the
// last bit of math.Exp2 differs between machines, and edges must not.
var mantissas = [perOctave]float64{
	1.0, 1.0442737824274138, 1.0905077326652577, 1.1387886347566916,
	1.189207115002721, 1.241857812073484, 1.2968395546510096, 1.3542555469368927,
	1.4142135623730951, 1.4768261459394993, 1.5422108254079407, 1.6104903319492543,
	1.681792830507429, 1.7562521603732995, 1.8340080864093424, 1.9152065613971474,
}

// Histogram counts values in buckets with fixed edges 2^(k/16), from 2^-10 to
// 2^30 in whatever unit the values have. Counts at an edge are exact, after any
// merges, so a test on them is exact too; a quantile is within 2.2 % of the
// value's. The zero value is empty. It is plain data.
type Histogram struct {
	// Buckets are the buckets that are not empty, by rising index.
	Buckets []Bucket
}

// Bucket is the count of one bucket. Index 0 holds the values up to 2^-10,
// among them 0; index k in 1..640 those in (2^(-10+(k-1)/16), 2^(-10+k/16)];
// and index 641 those above 2^30.
type Bucket struct {
	Index uint16
	Count int64 // values, at least 1
}

// NewHistogram returns an empty histogram.
func NewHistogram() *Histogram { return &Histogram{} }

// edge returns the upper edge of a bucket.
func edge(index int) float64 {
	if index >= overflow {
		return math.Inf(1)
	}
	return math.Ldexp(mantissas[index%perOctave], minOctave+index/perOctave)
}

// index returns the bucket of a value that is not negative and not NaN: the
// first whose upper edge is not below it.
func index(v float64) int {
	switch {
	case v <= edge(0):
		return 0
	case v > edge(overflow-1):
		return overflow
	}
	fraction, exponent := math.Frexp(v) // v = 2*fraction * 2^(exponent-1)
	k, _ := slices.BinarySearch(mantissas[:], 2*fraction)
	return (exponent-1-minOctave)*perOctave + k
}

// Add counts a value. It returns an error, and counts nothing, if the value is
// negative or NaN. +Inf is above all edges.
func (h *Histogram) Add(v float64) error {
	if !(v >= 0) {
		return fmt.Errorf("sketch: value %v in a histogram, want at least 0", v)
	}
	h.add(uint16(index(v)), 1)
	return nil
}

func (h *Histogram) add(index uint16, count int64) {
	i, ok := slices.BinarySearchFunc(h.Buckets, index, func(b Bucket, index uint16) int { return int(b.Index) - int(index) })
	if !ok {
		h.Buckets = slices.Insert(h.Buckets, i, Bucket{Index: index})
	}
	h.Buckets[i].Count += count
}

// Merge adds the counts of o, which keeps its memory and may be nil.
func (h *Histogram) Merge(o *Histogram) {
	if o == nil {
		return
	}
	for _, b := range o.Buckets {
		h.add(b.Index, b.Count)
	}
}

// Count returns how many values were added.
func (h *Histogram) Count() int64 {
	var n int64
	for _, b := range h.Buckets {
		n += b.Count
	}
	return n
}

// EdgeAtLeast returns the lowest edge that is not below v, which must not be
// NaN; +Inf if v is above all.
func EdgeAtLeast(v float64) float64 { return edge(index(v)) }

// CountAtMost returns how many values are at most edge, exactly. edge must be
// one of the edges or +Inf, as [EdgeAtLeast] returns them; between edges no
// exact count is known, and an error is returned.
func (h *Histogram) CountAtMost(edge float64) (int64, error) {
	if math.IsNaN(edge) || EdgeAtLeast(edge) != edge {
		return 0, fmt.Errorf("sketch: %v is not an edge of the histogram", edge)
	}
	last := uint16(index(edge))
	var n int64
	for _, b := range h.Buckets {
		if b.Index <= last {
			n += b.Count
		}
	}
	return n, nil
}

// Quantile returns about the q-quantile: the smallest value that at least a
// share q of the values is at most. Its relative error is at most 2.2 %, which
// is half of a bucket's width: it returns the harmonic mean of the edges of the
// bucket that the quantile is in, which errs alike at both. It returns 0 for a
// value up to 2^-10, +Inf for one above 2^30, and NaN if the histogram is empty
// or q is not in [0,1].
func (h *Histogram) Quantile(q float64) float64 {
	total := h.Count()
	if total == 0 || !(q >= 0 && q <= 1) {
		return math.NaN()
	}
	// The product may be rounded past the total.
	rank := min(total, max(1, int64(math.Ceil(q*float64(total)))))
	at := 0
	for rank > h.Buckets[at].Count {
		rank -= h.Buckets[at].Count
		at++
	}
	switch i := int(h.Buckets[at].Index); i {
	case 0:
		return 0
	case overflow:
		return math.Inf(1)
	default:
		lo, hi := edge(i-1), edge(i)
		return 2 * lo * hi / (lo + hi)
	}
}

// MarshalBinary encodes the histogram: a version byte (1), the number of
// buckets that are not empty, and for each the distance of its index from the
// one before (the first from -1) and its count, all uvarint. It never fails.
func (h Histogram) MarshalBinary() ([]byte, error) {
	data := binary.AppendUvarint([]byte{histogramVersion}, uint64(len(h.Buckets)))
	last := -1
	for _, b := range h.Buckets {
		data = binary.AppendUvarint(data, uint64(int(b.Index)-last))
		data = binary.AppendUvarint(data, uint64(b.Count))
		last = int(b.Index)
	}
	return data, nil
}

// UnmarshalBinary replaces the histogram by one that MarshalBinary encoded, of
// up to 2^53 values. It keeps no part of data. An error wraps [ErrCorrupt]:
// there is one encoding of each histogram, and no other bytes are taken.
func (h *Histogram) UnmarshalBinary(data []byte) error {
	d := decoder{what: "histogram", rest: data}
	if v := d.octet(); d.err == nil && v != histogramVersion {
		d.fail("version %d, want %d", v, histogramVersion)
	}
	var out Histogram
	last, total := -1, uint64(0)
	for range d.uvarint(overflow + 1) {
		gap, count := d.uvarint(overflow+1), d.uvarint(maxCount)
		if d.err != nil {
			return d.err
		}
		last += int(gap)
		total += count
		if gap == 0 || last > overflow || count == 0 || total > maxCount {
			d.fail("bucket %d of count %d", last, count)
			return d.err
		}
		out.Buckets = append(out.Buckets, Bucket{Index: uint16(last), Count: int64(count)})
	}
	if err := d.end(); err != nil {
		return err
	}
	*h = out
	return nil
}
