package batch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/klauspost/compress/s2"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// ErrCorrupt says that a group message is not one that [Group] wrote.
var ErrCorrupt = errors.New("corrupt group")

const (
	plainVersion  = 1 // rows as they are
	packedVersion = 2 // rows as one S2 block
	groupTrailer  = 4 // CRC-32C over all bytes before it

	// minPacked is how many bytes a group has before it is packed: little
	// repeats in a smaller one. maxPacked bounds what a reader unpacks.
	minPacked = 1 << 10
	maxPacked = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Group makes one journal message of beacons: compact rows with one string
// dictionary for the whole group, packed by S2 (docs/formats/group.md has the bytes). Rows
// and not Arrow IPC, because a group closes after some milliseconds and an IPC
// stream of 25 columns costs kilobytes of schema per tenant and release before
// its first row. The zero Group is empty and ready. It is not safe for
// concurrent use.
type Group struct {
	buf     []byte
	dict    map[string]uint64
	beacons int
	events  int
	near    []nearText // made with the dictionary
	round   uint32     // of the dictionary: entries of near from another one say nothing
	last    int        // bytes of the rows before, which the next ones will be like
	spare   []byte     // memory for rows
	packed  []byte     // memory for a packed message
}

// nearText is a text of the dictionary, told by where it is in memory: decoders
// give out one copy of what repeats. It holds the text, so that nothing else can
// come to stand there.
type nearText struct {
	text  string
	ref   uint32
	round uint32
}

// nearTexts is how many are remembered, a power of two, and maxNear how long a
// text may be: longer ones are stacks, which would be kept alive.
const (
	nearTexts = 1 << 9
	maxNear   = 128
)

// Add appends one admitted beacon of a tenant.
func (g *Group) Add(id tenant.ID, b *event.Beacon) {
	if g.dict == nil {
		g.dict = make(map[string]uint64, 256)
		g.near = make([]nearText, nearTexts)
		g.round = 1
	}
	if len(g.buf) == 0 {
		if cap(g.spare) < g.last {
			g.spare = make([]byte, 0, g.last+g.last/4+256)
		}
		g.buf, g.spare = append(g.spare[:0], plainVersion), nil
	}
	g.beacons++
	g.events += len(b.Events)
	g.text(id.String())
	g.beacon(b)
}

// beacon appends all of a beacon but whose it is.
func (g *Group) beacon(b *event.Beacon) {
	g.text(b.App)
	g.text(string(b.Release))
	g.text(b.SDK)
	g.buf = append(g.buf, byte(b.Tenancy))
	g.raw(b.Session) // unique to a few rows: a dictionary entry would be waste
	g.raw(b.User)
	g.raw(b.Ctx.Prefix)
	g.uint(uint64(b.Seq))
	g.int(b.Received)
	g.int(b.Sent - b.Received)
	g.uint(uint64(len(b.Arms)))
	for i := range b.Arms {
		g.text(b.Arms[i].Change)
		g.text(b.Arms[i].Variant)
	}
	c := &b.Ctx
	for _, s := range [...]string{c.Platform, c.OS, c.Browser, c.Device, c.Network, c.Country, c.Page, c.Env} {
		g.text(s)
	}
	g.uint(uint64(len(b.Events)))
	for i := range b.Events {
		g.event(&b.Events[i], b.Received)
	}
	g.uint(uint64(len(b.Drops)))
	for i := range b.Drops {
		g.text(b.Drops[i].Cause)
		g.int(b.Drops[i].Count)
	}
}

const (
	flagValue   = 1 << iota // a value follows
	flagInteger             // the value is a whole number, written as a varint
	flagUnit
	flagMessage
	flagStack
	flagAttrs
	flagsKnown = 1<<iota - 1
)

// The least bytes that the rows of a list take in a message: each reference,
// number and tag is one byte or more.
const (
	minArm   = 2 // change, variant
	minEvent = 4 // kind, flags, name, time
	minDrop  = 2 // cause, count
	minAttr  = 3 // key, tag, text
	// minBeacon counts app, release, sdk, tenancy, session, user, seq, two times,
	// three counts and eight references of the context.
	minBeacon = 20
)

func (g *Group) event(e *event.One, received int64) {
	var flags byte
	whole := e.HasVal && e.Value == math.Trunc(e.Value) && math.Abs(e.Value) < 1<<31 && !(e.Value == 0 && math.Signbit(e.Value))
	set := func(on bool, f byte) {
		if on {
			flags |= f
		}
	}
	set(e.HasVal, flagValue)
	set(whole, flagInteger)
	set(e.Unit != "", flagUnit)
	set(e.Message != "", flagMessage)
	set(e.Stack != "", flagStack)
	set(len(e.Attrs) > 0, flagAttrs)
	g.buf = append(g.buf, byte(e.Kind), flags)
	g.text(e.Name)
	g.int(e.Time - received)
	switch {
	case whole:
		g.int(int64(e.Value))
	case e.HasVal:
		g.float(e.Value)
	}
	if e.Unit != "" {
		g.text(e.Unit)
	}
	if e.Message != "" {
		g.text(e.Message)
	}
	if e.Stack != "" {
		g.text(e.Stack)
	}
	if len(e.Attrs) > 0 {
		g.uint(uint64(len(e.Attrs)))
		for i := range e.Attrs {
			a := &e.Attrs[i]
			g.text(a.Key)
			if a.Num {
				g.buf = append(g.buf, 1)
				g.float(a.Number)
			} else {
				g.buf = append(g.buf, 0)
				g.text(a.Text)
			}
		}
	}
}

func (g *Group) uint(v uint64) { g.buf = binary.AppendUvarint(g.buf, v) }
func (g *Group) int(v int64)   { g.buf = binary.AppendVarint(g.buf, v) }
func (g *Group) float(v float64) {
	g.buf = binary.LittleEndian.AppendUint64(g.buf, math.Float64bits(v))
}

func (g *Group) raw(s string) {
	g.uint(uint64(len(s)))
	g.buf = append(g.buf, s...)
}

// text writes a reference to the dictionary: n+1 for entry n, or 0 followed by
// the text itself, which becomes the next entry.
func (g *Group) text(s string) {
	var near *nearText
	if g.near != nil && len(s) <= maxNear {
		p := uint64(uintptr(unsafe.Pointer(unsafe.StringData(s))))
		near = &g.near[p*0x9e3779b97f4a7c15>>(64-9)] // Fibonacci hashing, by 2⁶⁴ and the golden ratio
		if near.round == g.round && len(near.text) == len(s) && unsafe.StringData(near.text) == unsafe.StringData(s) {
			g.uint(uint64(near.ref))
			return
		}
	}
	n, ok := g.dict[s]
	if ok {
		g.uint(n + 1)
	} else {
		n = uint64(len(g.dict))
		g.dict[s] = n
		g.buf = append(g.buf, 0)
		g.raw(s)
	}
	if near != nil {
		*near = nearText{s, uint32(n + 1), g.round}
	}
}

// Beacons returns how many beacons the group holds.
func (g *Group) Beacons() int { return g.beacons }

// Events returns how many events the group holds.
func (g *Group) Events() int { return g.events }

// Size returns the bytes that the message has so far.
func (g *Group) Size() int { return len(g.buf) }

// Seal ends the group and returns its message, which the caller owns; the
// group is empty afterwards. The message of an empty group is nil, and no
// message: ReadGroup does not take it.
func (g *Group) Seal() []byte {
	if g.beacons == 0 {
		return nil
	}
	clear(g.dict)
	if g.round++; g.round == 0 {
		clear(g.near)
		g.round = 1
	}
	rows := g.buf
	*g = Group{dict: g.dict, near: g.near, round: g.round, last: len(rows) + groupTrailer, packed: g.packed}
	if msg := g.pack(rows); msg != nil {
		g.keep(rows)
		return withSum(msg)
	}
	return withSum(rows)
}

// pack returns a message without its checksum that holds the rows of a plain
// one in fewer bytes, or nil where they are not worth it. The memory is g's own,
// which lets go of it.
func (g *Group) pack(plain []byte) []byte {
	if len(plain) < minPacked || len(plain) > maxPacked {
		return nil
	}
	most := 1 + s2.MaxEncodedLen(len(plain)-1)
	if cap(g.packed) < most+groupTrailer {
		g.packed = make([]byte, most+most/4+groupTrailer)
	}
	msg := g.packed[:1+len(s2.Encode(g.packed[1:most], plain[1:]))]
	if len(msg) >= len(plain) {
		return nil
	}
	g.packed = nil
	msg[0] = packedVersion
	return msg
}

func withSum(msg []byte) []byte {
	return binary.LittleEndian.AppendUint32(msg, crc32.Checksum(msg, castagnoli))
}

// maxSpare bounds the memory that a group keeps for its next message.
const maxSpare = 1 << 20

// keep takes memory for the next rows.
func (g *Group) keep(rows []byte) {
	if cap(rows) <= maxSpare {
		g.spare = rows[:0]
	}
}

// Recycle gives the memory of a message that was sealed back to the empty group.
// The caller uses the message no more.
func (g *Group) Recycle(msg []byte) {
	switch {
	case g.beacons > 0 || len(msg) == 0:
	case msg[0] == plainVersion:
		g.keep(msg)
	case cap(msg) <= maxSpare:
		g.packed = msg[:cap(msg)]
	}
}

// AppendBeacons appends beacons that are nobody's yet to dst, in the rows of a
// group, without its version and checksum: it is for a pipe between two
// processes of one binary, and for nothing that lasts.
func AppendBeacons(dst []byte, beacons []event.Beacon) []byte {
	g := Group{buf: dst, dict: make(map[string]uint64, 64)}
	g.uint(uint64(len(beacons)))
	for i := range beacons {
		g.beacon(&beacons[i])
	}
	return g.buf
}

// ReadBeacons reads what [AppendBeacons] wrote at the front of data, and returns
// what is behind it.
func ReadBeacons(data []byte) (beacons []event.Beacon, rest []byte, err error) {
	r := reader{b: data}
	n := r.count(minBeacon)
	for range n {
		var b event.Beacon
		r.beacon(&b)
		if r.bad {
			return nil, nil, fmt.Errorf("%w: truncated or malformed row", ErrCorrupt)
		}
		beacons = append(beacons, b)
	}
	if r.bad {
		return nil, nil, fmt.Errorf("%w: no count", ErrCorrupt)
	}
	return beacons, r.b, nil
}
