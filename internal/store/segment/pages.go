package segment

import (
	"encoding/binary"
	"math/bits"
)

// The encodings of pages (https://parquet.apache.org/docs/file-format/data-pages/encodings/).
// They are our own, because a batch knows its runs: what all events of a beacon
// share is a run of as many rows, which costs the same however many they are.
// pqarrow writes it out row by row, finds the runs anew and takes several times
// as long.

// maxGroups is how many groups of eight are bit-packed in a row: as many as have
// a header of one byte, which is all that some readers expect.
const maxGroups = 63

// hybrid encodes numbers as runs and, where there are none, bit-packed: the
// encoding RLE, without its length.
type hybrid struct {
	dst   []byte
	width int      // bits of a number
	open  []uint32 // not written yet, and not in a run
}

// add adds a number that is there n times in a row.
func (h *hybrid) add(v uint32, n int) {
	if part := len(h.open) % 8; part > 0 {
		fill := min(8-part, n)
		for range fill {
			h.open = append(h.open, v)
		}
		n -= fill
	}
	if len(h.open) >= 8*maxGroups {
		h.pack()
	}
	if n >= 8 {
		h.pack()
		h.dst = binary.AppendUvarint(h.dst, uint64(n)<<1)
		for shift := 0; shift < h.width; shift += 8 {
			h.dst = append(h.dst, byte(v>>shift))
		}
		return
	}
	for range n {
		h.open = append(h.open, v)
	}
}

// pack writes what is open, in groups of eight, of which only the very last one
// may be filled up with zeros.
func (h *hybrid) pack() {
	if len(h.open) == 0 {
		return
	}
	for len(h.open)%8 != 0 {
		h.open = append(h.open, 0)
	}
	h.dst = binary.AppendUvarint(h.dst, uint64(len(h.open)/8)<<1|1)
	h.dst = appendPacked(h.dst, h.open, h.width)
	h.open = h.open[:0]
}

// appendPacked appends numbers of width bits each, the lowest bits first. There
// are a multiple of eight of them, so that they end with a byte.
func appendPacked[T uint32 | uint64](dst []byte, numbers []T, width int) []byte {
	if width == 0 {
		return dst
	}
	var held uint64
	n := 0
	for _, v := range numbers {
		held |= uint64(v) << n
		if n += width; n >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, held)
			n -= 64
			held = uint64(v) >> (width - n) // 0 where n is 0: v has no more than width bits
		}
	}
	for ; n > 0; n -= 8 {
		dst = append(dst, byte(held))
		held >>= 8
	}
	return dst
}

// codeWidth is how many bits a code needs of a dictionary with so many words.
func codeWidth(words int) int { return bits.Len(uint(max(words-1, 0))) }

// The shape of DELTA_BINARY_PACKED, that of all writers.
const (
	deltaBlock = 128
	deltaMinis = 4
	deltaMini  = deltaBlock / deltaMinis
)

// delta encodes integers by their differences: the encoding DELTA_BINARY_PACKED.
type delta struct {
	dst   []byte
	last  int64
	open  []int64 // differences of the block
	least int64   // of them
	first bool
	pack  [deltaMini]uint64
}

// begin begins a page of n integers.
func (d *delta) begin(dst []byte, n int) {
	dst = binary.AppendUvarint(dst, deltaBlock)
	dst = binary.AppendUvarint(dst, deltaMinis)
	d.dst = binary.AppendUvarint(dst, uint64(n))
	d.open, d.first, d.last = d.open[:0], true, 0
}

// add adds an integer that is there n times in a row.
func (d *delta) add(v int64, n int) {
	if n == 0 {
		return
	}
	if d.first {
		d.first = false
		d.dst = binary.AppendVarint(d.dst, v)
	} else {
		d.put(v - d.last)
	}
	d.last = v
	for range n - 1 {
		d.put(0)
	}
}

func (d *delta) put(diff int64) {
	if len(d.open) == 0 || diff < d.least {
		d.least = diff
	}
	if d.open = append(d.open, diff); len(d.open) == deltaBlock {
		d.block()
	}
}

// block writes a block, of which only the last one may be short: its last
// miniblock is then filled up, and those behind it are not there but for their
// widths.
func (d *delta) block() {
	if len(d.open) == 0 {
		return
	}
	d.dst = binary.AppendVarint(d.dst, d.least)
	widths := len(d.dst)
	d.dst = append(d.dst, make([]byte, deltaMinis)...)
	for i := 0; i*deltaMini < len(d.open); i++ {
		mini := d.open[i*deltaMini : min((i+1)*deltaMini, len(d.open))]
		all := uint64(0)
		for j, diff := range mini {
			d.pack[j] = uint64(diff - d.least)
			all |= d.pack[j]
		}
		clear(d.pack[len(mini):])
		width := bits.Len64(all)
		d.dst[widths+i] = byte(width)
		d.dst = appendPacked(d.dst, d.pack[:], width)
	}
	d.open = d.open[:0]
}
