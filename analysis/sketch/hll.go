package sketch

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

const (
	hllVersion   = 1
	hllPrecision = 12
	registers    = 1 << hllPrecision
	maxRank      = 64 - hllPrecision + 1

	// A sparse register takes four bytes, a dense one takes one.
	sparseMax = registers / 4

	formSparse = 0
	formDense  = 1
)

// HLL is a HyperLogLog sketch of a set of hashed identities, with 2^12
// registers over 64-bit hashes (Flajolet et al., HyperLogLog, 2007; Heule et
// al., HyperLogLog in practice, 2013, for 64 bits and the sparse form). Its
// relative standard error is 1.04/sqrt(4096) = 1.6 %. It takes up to 4 KiB, and
// less while fewer than 1025 registers are set. The zero value is an empty set.
type HLL struct {
	sparse []uint32 // register<<8 | rank, rising; only if dense is nil
	dense  []uint8  // ranks; nil, or of length registers
}

// Add adds the identity with the given hash. The hash must be uniform in all
// its bits and the same everywhere for one identity. Adding a hash again
// changes nothing.
func (h *HLL) Add(hash uint64) {
	h.raise(uint32(hash>>(64-hllPrecision)), uint8(min(bits.LeadingZeros64(hash<<hllPrecision)+1, maxRank)))
}

// raise lifts a register to at least rank.
func (h *HLL) raise(register uint32, rank uint8) {
	if h.dense != nil {
		h.dense[register] = max(h.dense[register], rank)
		return
	}
	entry := register<<8 | uint32(rank)
	i, _ := slices.BinarySearch(h.sparse, register<<8)
	if i < len(h.sparse) && h.sparse[i]>>8 == register {
		h.sparse[i] = max(h.sparse[i], entry)
		return
	}
	if len(h.sparse) < sparseMax {
		h.sparse = slices.Insert(h.sparse, i, entry)
		return
	}
	h.dense = make([]uint8, registers)
	for _, e := range h.sparse {
		h.dense[e>>8] = uint8(e)
	}
	h.sparse = nil
	h.dense[register] = rank
}

// Merge makes h the sketch of the union of both sets: the same as if all of
// o's identities had been added to h. o keeps its memory and may be nil.
func (h *HLL) Merge(o *HLL) {
	if o == nil {
		return
	}
	for _, e := range o.sparse {
		h.raise(e>>8, uint8(e))
	}
	for i, r := range o.dense {
		if r > 0 {
			h.raise(uint32(i), r)
		}
	}
}

// Estimate returns about how many distinct identities were added, 0 for none.
// It is the estimator of Ertl (New cardinality estimation algorithms for
// HyperLogLog sketches, 2017, algorithm 6), which is unbiased over the whole
// range without the tables of corrections that Heule et al. need.
func (h *HLL) Estimate() float64 {
	var count [maxRank + 1]float64 // registers by rank
	count[0] = registers
	for _, e := range h.sparse {
		count[0]--
		count[uint8(e)]++
	}
	for _, r := range h.dense {
		count[0]--
		count[r]++
	}
	z := registers * tau(1-count[maxRank]/registers)
	for k := maxRank - 1; k >= 1; k-- {
		z = (z + count[k]) / 2
	}
	z += registers * sigma(count[0]/registers)
	return registers * registers / (2 * math.Ln2 * z)
}

// sigma is Ertl's x + sum of x^(2^k) 2^(k-1), which weighs registers still 0.
func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	y, z := 1.0, x
	for last := math.NaN(); z != last; {
		x *= x
		last = z
		z += x * y
		y += y
	}
	return z
}

// tau is Ertl's correction for registers at the highest rank.
func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	y, z := 1.0, 1-x
	for last := math.NaN(); z != last; {
		x = math.Sqrt(x)
		last = z
		y /= 2
		z -= (1 - x) * (1 - x) * y
	}
	return z / 3
}

// MarshalBinary encodes the sketch: a version byte (1) and a form byte. Form 0
// (sparse) goes on with the number of registers that are not 0 (uvarint, up to
// 1024) and for each the distance of its number from the one before (uvarint;
// the first from -1) and its rank (one byte, 1 to 53). Form 1 (dense) goes on
// with the ranks of all 4096 registers, of which over 1024 are not 0. It never
// fails.
func (h HLL) MarshalBinary() ([]byte, error) {
	if h.dense != nil {
		return append([]byte{hllVersion, formDense}, h.dense...), nil
	}
	data := binary.AppendUvarint([]byte{hllVersion, formSparse}, uint64(len(h.sparse)))
	last := int64(-1)
	for _, e := range h.sparse {
		data = binary.AppendUvarint(data, uint64(int64(e>>8)-last))
		data = append(data, uint8(e))
		last = int64(e >> 8)
	}
	return data, nil
}

// UnmarshalBinary replaces the sketch by one that MarshalBinary encoded. It
// keeps no part of data. An error wraps [ErrCorrupt]: there is one encoding of
// each sketch, and no other bytes are taken.
func (h *HLL) UnmarshalBinary(data []byte) error {
	d := decoder{what: "HLL", rest: data}
	if v := d.octet(); d.err == nil && v != hllVersion {
		d.fail("version %d, want %d", v, hllVersion)
	}
	var out HLL
	switch form := d.octet(); {
	case d.err != nil:
	case form == formSparse:
		out.sparse = d.sparse()
	case form == formDense:
		out.dense = d.dense()
	default:
		d.fail("form %d", form)
	}
	if err := d.end(); err != nil {
		return err
	}
	*h = out
	return nil
}

func (d *decoder) sparse() []uint32 {
	n := d.uvarint(sparseMax)
	if n == 0 {
		return nil
	}
	entries := make([]uint32, 0, n)
	last := int64(-1)
	for range n {
		gap := d.uvarint(registers)
		rank := d.octet()
		last += int64(gap)
		if d.err != nil {
			return nil
		}
		if gap == 0 || last >= registers || rank == 0 || rank > maxRank {
			d.fail("register %d of rank %d", last, rank)
			return nil
		}
		entries = append(entries, uint32(last)<<8|uint32(rank))
	}
	return entries
}

func (d *decoder) dense() []uint8 {
	if len(d.rest) < registers {
		d.fail("%d registers, want %d", len(d.rest), registers)
		return nil
	}
	ranks := slices.Clone(d.rest[:registers])
	d.rest = d.rest[registers:]
	set := 0
	for i, r := range ranks {
		if r > maxRank {
			d.fail("register %d of rank %d", i, r)
		}
		if r > 0 {
			set++
		}
	}
	if set <= sparseMax {
		d.fail("dense with %d registers set", set)
	}
	return ranks
}

// decoder reads an encoding strictly and keeps its first error.
type decoder struct {
	what string
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w of a %s: %s", ErrCorrupt, d.what, fmt.Sprintf(format, args...))
	}
}

func (d *decoder) octet() byte {
	if d.err == nil && len(d.rest) == 0 {
		d.fail("truncated")
	}
	if d.err != nil {
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

// uvarint reads a number up to limit in its shortest form.
func (d *decoder) uvarint(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Uvarint(d.rest)
	switch {
	case n <= 0:
		d.fail("truncated or overlong number")
	case n > 1 && d.rest[n-1] == 0:
		d.fail("number not in its shortest form")
	case v > limit:
		d.fail("%d, at most %d", v, limit)
	default:
		d.rest = d.rest[n:]
		return v
	}
	return 0
}

// end returns the first error; bytes left over are one.
func (d *decoder) end() error {
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d bytes too many", len(d.rest))
	}
	return d.err
}
