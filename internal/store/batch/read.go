package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/klauspost/compress/s2"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// ReadGroup reads a message as [Reader.Read] does.
func ReadGroup(msg []byte, fn func(tenant.ID, *event.Beacon) error) error {
	return new(Reader).Read(msg, fn)
}

// Reader reads messages. The zero Reader is ready. It keeps a bounded table of
// texts from message to message, so that what repeats is one copy; it is not
// safe for concurrent use.
type Reader struct {
	r     reader
	ids   map[string]tenant.ID
	known map[string]string // texts of dictionaries
	bytes int               // of them
	rows  []byte            // memory for those of a packed message
	last  event.Beacon      // that was given out
}

// The bounds of what a Reader keeps.
const (
	maxKnown      = 1 << 15 // texts
	maxKnownBytes = 1 << 20
	maxKnownText  = 256 // bytes of one
)

// one returns a text as a string, and does not allocate one that is known.
func (r *Reader) one(b []byte) string {
	if len(b) > maxKnownText {
		return string(b)
	}
	if s, ok := r.known[string(b)]; ok {
		return s
	}
	if r.known == nil {
		r.known = make(map[string]string, 256)
	}
	if len(r.known) == maxKnown || r.bytes+len(b) > maxKnownBytes {
		clear(r.known)
		r.bytes = 0
	}
	s := string(b)
	r.known[s] = s
	r.bytes += len(b)
	return s
}

// Read calls fn with each beacon of a message, in order. The beacon
// belongs to the Reader and is overwritten by the next; its strings may be kept.
// A message that Group did not write is [ErrCorrupt], and fn is not called at
// all unless the checksum is right. An error of fn ends the reading and is
// returned as it is.
func (rd *Reader) Read(msg []byte, fn func(tenant.ID, *event.Beacon) error) error {
	if len(msg) < 1+groupTrailer {
		return fmt.Errorf("%w: %d bytes", ErrCorrupt, len(msg))
	}
	body, sum := msg[:len(msg)-groupTrailer], binary.LittleEndian.Uint32(msg[len(msg)-groupTrailer:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return fmt.Errorf("%w: checksum %08x, want %08x", ErrCorrupt, got, sum)
	}
	rows := body[1:]
	switch body[0] {
	case plainVersion:
	case packedVersion:
		var err error
		if rows, err = rd.unpack(rows); err != nil {
			return fmt.Errorf("%w: unpack: %w", ErrCorrupt, err)
		}
	default:
		return fmt.Errorf("%w: version %d, want %d or %d", ErrCorrupt, body[0], plainVersion, packedVersion)
	}
	if rd.ids == nil || len(rd.ids) >= maxKnown {
		rd.ids = map[string]tenant.ID{}
	}
	r := &rd.r
	*r = reader{b: rows, dict: r.dict[:0], attrs: r.attrs, again: rd}
	for len(r.b) > 0 {
		name := r.text()
		r.beacon(&rd.last)
		if r.bad {
			return fmt.Errorf("%w: truncated or malformed row", ErrCorrupt)
		}
		id, ok := rd.ids[name]
		if !ok {
			var err error
			if id, err = tenant.Stored(name); err != nil {
				return fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			rd.ids[name] = id
		}
		if err := fn(id, &rd.last); err != nil {
			return err
		}
	}
	return nil
}

// unpack returns the rows of a packed message, which are the Reader's until the next.
func (rd *Reader) unpack(block []byte) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return nil, err
	}
	if n > maxPacked {
		return nil, fmt.Errorf("%d bytes of rows, want %d at most", n, maxPacked)
	}
	if cap(rd.rows) < n {
		rd.rows = make([]byte, n+n/4)
	}
	return s2.Decode(rd.rows[:cap(rd.rows)], block)
}

type reader struct {
	b     []byte
	dict  []string
	bad   bool
	again *Reader      // nil: what is read is kept, and shares no memory with what is read later
	attrs []event.Attr // of the beacon that is read, where again is there
}

func (r *reader) fail() { r.bad, r.b = true, nil }

func (r *reader) uint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) int() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) float() float64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (r *reader) raw() string {
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

// word is raw for a text that is likely to be in other messages too.
func (r *reader) word() string {
	if r.again == nil {
		return r.raw()
	}
	n := r.uint()
	if n > uint64(len(r.b)) {
		r.fail()
		return ""
	}
	s := r.again.one(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) text() string {
	n := r.uint()
	switch {
	case r.bad:
		return ""
	case n == 0:
		s := r.word()
		r.dict = append(r.dict, s)
		return s
	case n > uint64(len(r.dict)):
		r.fail()
		return ""
	}
	return r.dict[n-1]
}

// count reads a number of things that take at least size bytes each, so that a
// forged count cannot make us allocate more than a fixed multiple of the
// message, whose length the journal bounds.
func (r *reader) count(size int) int {
	n := r.uint()
	if n > uint64(len(r.b)/size) {
		r.fail()
		return 0
	}
	return int(n)
}

func (r *reader) beacon(b *event.Beacon) {
	b.Reset()
	r.attrs = r.attrs[:0]
	b.App = r.text()
	b.Release = event.Release(r.text())
	b.SDK = r.text()
	b.Tenancy = event.Tenancy(r.byte())
	b.Session = r.raw()
	b.User = r.raw()
	b.Ctx.Prefix = r.word()
	seq := r.uint()
	if seq > math.MaxUint32 {
		r.fail()
	}
	b.Seq = uint32(seq)
	b.Received = r.int()
	b.Sent = b.Received + r.int()
	for range r.count(minArm) {
		b.Arms = append(b.Arms, event.Arm{Change: r.text(), Variant: r.text()})
	}
	c := &b.Ctx
	for _, p := range [...]*string{&c.Platform, &c.OS, &c.Browser, &c.Device, &c.Network, &c.Country, &c.Page, &c.Env} {
		*p = r.text()
	}
	for n := r.count(minEvent); n > 0 && !r.bad; n-- {
		b.Events = append(b.Events, event.One{})
		r.event(&b.Events[len(b.Events)-1], b.Received)
	}
	for range r.count(minDrop) {
		b.Drops = append(b.Drops, event.Dropped{Cause: r.text(), Count: r.int()})
	}
}

func (r *reader) event(e *event.One, received int64) {
	e.Kind = event.Kind(r.byte())
	flags := r.byte()
	if flags&^flagsKnown != 0 || flags&(flagInteger|flagValue) == flagInteger {
		r.fail()
		return
	}
	e.Name = r.text()
	e.Time = received + r.int()
	e.HasVal = flags&flagValue != 0
	switch {
	case flags&flagInteger != 0:
		e.Value = float64(r.int())
	case e.HasVal:
		e.Value = r.float()
	}
	if flags&flagUnit != 0 {
		e.Unit = r.text()
	}
	if flags&flagMessage != 0 {
		e.Message = r.text()
	}
	if flags&flagStack != 0 {
		e.Stack = r.text()
	}
	if flags&flagAttrs != 0 {
		n := r.count(minAttr)
		as, from := r.attrs, len(r.attrs)
		if r.again == nil {
			as, from = make([]event.Attr, 0, n), 0
		}
		for range n {
			a := event.Attr{Key: r.text()}
			switch r.byte() {
			case 0:
				a.Text = r.text()
			case 1:
				a.Num, a.Number = true, r.float()
			default:
				r.fail()
			}
			as = append(as, a)
		}
		e.Attrs = as[from:len(as):len(as)]
		if r.again != nil {
			r.attrs = as // and where that was moved, events before it keep the old place
		}
	}
}
