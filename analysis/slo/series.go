package slo

import (
	"encoding/binary"
	"errors"
	"slices"
	"sort"
)

// Times here are whole minutes since 1970, UTC. Past its horizon a series keeps
// quarters of an hour: all offsets of zones are whole quarters, so that a calendar
// window begins where one does.
const quarter = 15

// Counts is how many units there were.
type Counts struct {
	Total int64
	Bad   int64
	// Capped is Bad with what a single client adds bounded: what alerts may rest
	// on.
	Capped int64
}

func (c Counts) plus(d Counts) Counts {
	return Counts{c.Total + d.Total, c.Bad + d.Bad, c.Capped + d.Capped}
}

func (c Counts) minus(d Counts) Counts {
	return Counts{c.Total - d.Total, c.Bad - d.Bad, c.Capped - d.Capped}
}

// Bucket counts what happened in one minute or quarter, and all before it.
type Bucket struct {
	At    int32 // start, minutes
	Until Counts
}

// Series counts units over time: by the minute since Cut, and by the quarter of an
// hour before. Sums over any window cost two searches, since what is kept are sums
// from the beginning.
type Series struct {
	Cut    int32 // a whole quarter
	Base   Counts
	Coarse []Bucket // quarters before Cut
	Fine   []Bucket // minutes from Cut on

	changed int32 // the first minute that was added to since [sliceSums] last looked; 0: all may be
}

// Add counts units of a minute.
func (s *Series) Add(at int32, c Counts) {
	s.changed = min(s.changed, at)
	if at < s.Cut {
		add(&s.Coarse, at-mod(at, quarter), c, s.Base)
		for i := range s.Fine {
			s.Fine[i].Until = s.Fine[i].Until.plus(c)
		}
		return
	}
	add(&s.Fine, at, c, s.before())
}

// before returns all that was counted before Cut.
func (s *Series) before() Counts {
	if n := len(s.Coarse); n > 0 {
		return s.Coarse[n-1].Until
	}
	return s.Base
}

func mod(a, b int32) int32 { return ((a % b) + b) % b }

func add(buckets *[]Bucket, at int32, c, base Counts) {
	bs := *buckets
	i := len(bs)
	for i > 0 && bs[i-1].At > at { // what is late is mostly so by little
		i--
	}
	if i == 0 || bs[i-1].At != at {
		until := base
		if i > 0 {
			until = bs[i-1].Until
		}
		bs = slices.Insert(bs, i, Bucket{At: at, Until: until})
		i++
	}
	for j := i - 1; j < len(bs); j++ {
		bs[j].Until = bs[j].Until.plus(c)
	}
	*buckets = bs
}

// upTo returns what was counted before a minute, which before Cut is rounded down
// to a quarter.
func (s *Series) upTo(at int32) Counts {
	if at >= s.Cut {
		if i := find(s.Fine, at); i > 0 {
			return s.Fine[i-1].Until
		}
		return s.before()
	}
	if i := find(s.Coarse, at-mod(at, quarter)); i > 0 {
		return s.Coarse[i-1].Until
	}
	return s.Base
}

// find returns how many buckets begin before a time. Where there is traffic in
// each minute the answer is as far from the end as the time is.
func find(bs []Bucket, at int32) int {
	n := len(bs)
	if n == 0 || bs[n-1].At < at {
		return n
	}
	if guess := n - 1 - int(bs[n-1].At-at); guess >= 0 && bs[guess].At == at {
		return guess
	}
	return sort.Search(n, func(i int) bool { return bs[i].At >= at })
}

// Sum returns what was counted in [from, to).
func (s *Series) Sum(from, to int32) Counts { return s.upTo(to).minus(s.upTo(from)) }

// All returns all that was ever counted.
func (s *Series) All() Counts {
	if n := len(s.Fine); n > 0 {
		return s.Fine[n-1].Until
	}
	return s.before()
}

// Compact makes quarters of the minutes before cut, and forgets the quarters
// before keep.
func (s *Series) Compact(cut, keep int32) {
	cut -= mod(cut, quarter)
	if cut > s.Cut {
		n := find(s.Fine, cut)
		for _, b := range s.Fine[:n] {
			at := b.At - mod(b.At, quarter)
			if k := len(s.Coarse); k > 0 && s.Coarse[k-1].At == at {
				s.Coarse[k-1].Until = b.Until
			} else {
				s.Coarse = append(s.Coarse, Bucket{at, b.Until})
			}
		}
		s.Fine = slices.Delete(s.Fine, 0, n)
		s.Cut = cut
	}
	if n := find(s.Coarse, keep-mod(keep, quarter)); n > 0 {
		s.Base = s.Coarse[n-1].Until
		s.Coarse = slices.Delete(s.Coarse, 0, n)
	}
}

// GobEncode writes the series one number after the other, each as its difference
// from the last: checkpoints hold thousands.
func (s Series) GobEncode() ([]byte, error) {
	b := make([]byte, 0, 16+6*(len(s.Coarse)+len(s.Fine)))
	b = binary.AppendVarint(b, int64(s.Cut))
	last := Bucket{}
	put := func(k Bucket) {
		d := k.Until.minus(last.Until)
		for _, n := range [...]int64{int64(k.At) - int64(last.At), d.Total, d.Bad, d.Capped} {
			b = binary.AppendVarint(b, n)
		}
		last = k
	}
	put(Bucket{Until: s.Base})
	for _, bs := range [...][]Bucket{s.Coarse, s.Fine} {
		b = binary.AppendUvarint(b, uint64(len(bs)))
		for _, k := range bs {
			put(k)
		}
	}
	return b, nil
}

// GobDecode reads what GobEncode wrote.
func (s *Series) GobDecode(b []byte) error {
	bad := false
	number := func() int64 {
		v, n := binary.Varint(b)
		if n <= 0 {
			bad = true
			return 0
		}
		b = b[n:]
		return v
	}
	*s = Series{Cut: int32(number())}
	last := Bucket{}
	get := func() Bucket {
		last.At += int32(number())
		last.Until = last.Until.plus(Counts{number(), number(), number()})
		return last
	}
	s.Base = get().Until
	for _, bs := range [...]*[]Bucket{&s.Coarse, &s.Fine} {
		count, n := binary.Uvarint(b)
		if n <= 0 || count > uint64(len(b)) {
			return errors.New("a series of a checkpoint: cut short")
		}
		b = b[n:]
		for range count {
			*bs = append(*bs, get())
		}
	}
	if bad || len(b) > 0 {
		return errors.New("a series of a checkpoint: cut short")
	}
	return nil
}
