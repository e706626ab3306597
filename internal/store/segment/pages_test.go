package segment

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// unpacked reads n numbers of width bits by the words of the specification.
func unpacked(b []byte, n, width int) (out []uint64) {
	for i := range n {
		v := uint64(0)
		for bit := range width {
			at := i*width + bit
			v |= uint64(b[at/8]>>(at%8)&1) << bit
		}
		out = append(out, v)
	}
	return out
}

func readHybrid(t *testing.T, b []byte, width, n int) (out []uint32) {
	t.Helper()
	for len(out) < n {
		head, size := binary.Uvarint(b)
		if size <= 0 {
			t.Fatalf("%d of %d numbers", len(out), n)
		}
		b = b[size:]
		if head&1 == 1 {
			groups := int(head >> 1)
			if size > 1 || groups == 0 {
				t.Fatalf("%d groups with a header of %d bytes", groups, size)
			}
			for _, v := range unpacked(b, 8*groups, width) {
				out = append(out, uint32(v))
			}
			b = b[groups*width:]
			continue
		}
		v := uint32(0)
		for i := range (width + 7) / 8 {
			v |= uint32(b[i]) << (8 * i)
		}
		b = b[(width+7)/8:]
		for range head >> 1 {
			out = append(out, v)
		}
	}
	if len(b) > 0 || len(out) >= n+8 {
		t.Fatalf("%d bytes and %d numbers too many", len(b), len(out)-n)
	}
	return out[:n]
}

func TestHybrid(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	var h hybrid
	for round := range 3000 {
		h.width = r.IntN(33)
		h.dst = h.dst[:0]
		var want []uint32
		longest := 1 + r.IntN(40)
		for range r.IntN(200) {
			v, n := uint32(r.Uint64()&(1<<h.width-1)), 1+r.IntN(longest)
			if r.IntN(50) == 0 {
				n = 0
			}
			h.add(v, n)
			want = append(want, slices.Repeat([]uint32{v}, n)...)
		}
		h.pack()
		if got := readHybrid(t, h.dst, h.width, len(want)); !slices.Equal(got, want) {
			t.Fatalf("round %d: width %d:\n%v\n%v", round, h.width, got, want)
		}
	}
}

func readDelta(t *testing.T, b []byte) (out []int64) {
	t.Helper()
	uint := func() uint64 {
		v, size := binary.Uvarint(b)
		if size <= 0 {
			t.Fatal("no number")
		}
		b = b[size:]
		return v
	}
	int := func() int64 { v := uint(); return int64(v>>1) ^ -int64(v&1) }
	block, minis, n := intOf(uint()), intOf(uint()), intOf(uint())
	if n == 0 {
		return nil
	}
	last := int()
	out = append(out, last)
	for len(out) < n {
		least := int()
		widths := b[:minis]
		b = b[minis:]
		for _, width := range widths {
			if len(out) == n {
				if width != 0 {
					t.Fatal("a width of a miniblock that is not there")
				}
				continue
			}
			size := block / minis
			for _, diff := range unpacked(b, size, intOf(uint64(width))) {
				if len(out) < n {
					last += least + int64(diff)
					out = append(out, last)
				}
			}
			b = b[size*intOf(uint64(width))/8:]
		}
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes too many", len(b))
	}
	return out
}

func intOf(v uint64) int { return int(v) }

func TestDelta(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	var d delta
	for round := range 2000 {
		var want []int64
		type run struct {
			v int64
			n int
		}
		var runs []run
		span := r.IntN(64)
		for range 1 + r.IntN(300) {
			one := run{int64(r.Uint64() >> span), 1 + r.IntN(1+r.IntN(30))}
			if r.IntN(2) == 0 {
				one.v = -one.v
			}
			if round == 0 {
				one.v = []int64{math.MinInt64, math.MaxInt64, 0}[r.IntN(3)]
			}
			runs = append(runs, one)
			want = append(want, slices.Repeat([]int64{one.v}, one.n)...)
		}
		d.begin(d.dst[:0], len(want))
		for _, one := range runs {
			d.add(one.v, one.n)
		}
		d.block()
		if got := readDelta(t, d.dst); !slices.Equal(got, want) {
			t.Fatalf("round %d:\n%v\n%v", round, got, want)
		}
	}
}
