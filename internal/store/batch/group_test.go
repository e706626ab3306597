package batch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"unsafe"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// checksummed makes a message of a body, so that tests reach what is behind
// the checksum.
func checksummed(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func ignore(tenant.ID, *event.Beacon) error { return nil }

func TestGroupRoundTrip(t *testing.T) {
	ids := []tenant.ID{mustID(t, "acme"), mustID(t, "b"), mustID(t, "shop-1")}
	var g Group
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var want []*event.Beacon
		var owners []tenant.ID
		events := 0
		for range 1 + r.IntN(20) {
			b, id := random(r), pick(r, ids...)
			want, owners = append(want, b), append(owners, id)
			events += len(b.Events)
			g.Add(id, b)
		}
		if g.Beacons() != len(want) || g.Events() != events {
			t.Fatalf("seed %d: %d beacons, %d events; want %d, %d", seed, g.Beacons(), g.Events(), len(want), events)
		}
		size := g.Size()
		msg := g.Seal()
		if len(msg) > size+groupTrailer || g.Size() != 0 || g.Beacons() != 0 || g.Events() != 0 {
			t.Fatalf("seed %d: message of %d bytes after size %d; the group then has %d bytes", seed, len(msg), size, g.Size())
		}
		i := 0
		err := ReadGroup(msg, func(id tenant.ID, b *event.Beacon) error {
			if got := clone(b); id != owners[i] || !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("seed %d: beacon %d of %s: %+v\nwant %+v", seed, i, id, got, want[i])
			}
			i++
			return nil
		})
		if err != nil || i != len(want) {
			t.Fatalf("seed %d: %d beacons of %d, %v", seed, i, len(want), err)
		}
	}
}

func TestEmptyGroup(t *testing.T) {
	var g Group
	if msg := g.Seal(); msg != nil {
		t.Fatalf("message %x of an empty group", msg)
	}
	if err := ReadGroup(nil, ignore); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func TestReadGroupReturnsTheErrorOfFn(t *testing.T) {
	want, calls := errors.New("enough"), 0
	err := ReadGroup(sealed(t, typical(1), typical(2)), func(tenant.ID, *event.Beacon) error { calls++; return want })
	if err != want || calls != 1 {
		t.Fatalf("%v after %d calls", err, calls)
	}
}

func sealed(t testing.TB, bs ...*event.Beacon) []byte {
	var g Group
	for _, b := range bs {
		g.Add(mustID(t, "acme"), b)
	}
	return g.Seal()
}

func TestEveryFlippedByteIsCorrupt(t *testing.T) {
	for _, msg := range [][]byte{
		sealed(t, typical(1), random(rand.New(rand.NewPCG(3, 4)))),
		sealed(t, slices.Repeat([]*event.Beacon{typical(1)}, 8)...),
	} {
		flipped(t, msg)
	}
}

func flipped(t *testing.T, msg []byte) {
	for i := range msg {
		for _, mask := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(msg)
			bad[i] ^= mask
			err := ReadGroup(bad, func(tenant.ID, *event.Beacon) error { t.Fatal("fn was called"); return nil })
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d ^ %02x: %v", i, mask, err)
			}
		}
	}
	for n := range msg {
		if err := ReadGroup(msg[:n], ignore); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
		// With a right checksum, a cut is still an error or ends between beacons.
		_ = ReadGroup(checksummed(msg[:n]), ignore)
	}
}

func TestMalformedRows(t *testing.T) {
	plain := &event.Beacon{App: "a", Release: "r", Events: []event.One{{Kind: event.Event, Name: "n"}}}
	body := sealed(t, plain)
	body = body[:len(body)-groupTrailer]
	flags := bytes.LastIndex(body, []byte{byte(event.Event), 0, 0, 1, 'n'}) + 1
	for name, f := range map[string]func([]byte) []byte{
		"version":           func(b []byte) []byte { b[0] = 3; return b },
		"not packed":        func(b []byte) []byte { b[0] = packedVersion; return b },
		"tenant":            func(b []byte) []byte { b[3] = '/'; return b },
		"unknown flag":      func(b []byte) []byte { b[flags] = 1 << 6; return b },
		"integer, no value": func(b []byte) []byte { b[flags] = flagInteger; return b },
		"forward reference": func(b []byte) []byte { b[1] = 9; return b },
		"one byte too many": func(b []byte) []byte { return append(b, 0) },
		"one byte missing":  func(b []byte) []byte { return b[:len(b)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			if err := ReadGroup(checksummed(f(bytes.Clone(body))), ignore); !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
		})
	}
}

// allocated returns the bytes that fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A forged count may be anywhere, so each byte of a message is replaced by a
// number that is huge, and by one that is as large as the message allows.
func TestForgedCountsDoNotAllocate(t *testing.T) {
	msg := sealed(t, typical(1))
	body := msg[:len(msg)-groupTrailer]
	padding := make([]byte, 1<<16)
	for _, count := range []uint64{1 << 62, uint64(len(padding)) / 4} {
		for i := 1; i < len(body); i++ {
			forged := binary.AppendUvarint(bytes.Clone(body[:i]), count)
			forged = checksummed(append(append(forged, body[i+1:]...), padding...))
			limit := uint64(150 * len(forged)) // growing slices included
			if n := allocated(func() { _ = ReadGroup(forged, ignore) }); n > limit {
				t.Fatalf("count %d at byte %d: %d bytes allocated for %d", count, i, n, len(forged))
			}
		}
	}
}

// FuzzReadGroup takes bodies: the checksum is put right, since no mutation
// would get past it. What reads without an error must write as something that
// reads and writes as itself.
func FuzzReadGroup(f *testing.F) {
	for n := range 3 {
		msg := sealed(f, typical(n), random(rand.New(rand.NewPCG(uint64(n), 9))))
		f.Add(msg[:len(msg)-groupTrailer])
		msg = sealed(f, slices.Repeat([]*event.Beacon{typical(n)}, 40)...)
		f.Add(msg[:len(msg)-groupTrailer])
	}
	rewrite := func(msg []byte) ([]byte, error) {
		var g Group
		all := map[string]*Batch{}
		err := ReadGroup(msg, func(id tenant.ID, b *event.Beacon) error {
			g.Add(id, b)
			key := fmt.Sprintf("%s %q %q", id, b.App, b.Release)
			if all[key] == nil {
				all[key] = New(Partition{id, b.App, b.Release})
			}
			all[key].Append(1, g.Beacons(), b)
			return nil
		})
		return g.Seal(), err
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		once, err := rewrite(checksummed(body))
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if once == nil {
			return // a version and no beacons
		}
		twice, err := rewrite(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v: %x\nwant %x", err, twice, once)
		}
	})
}

// These are the bytes that docs/formats/group.md walks through.
func TestTheExampleOfTheDocument(t *testing.T) {
	var g Group
	g.Add(mustID(t, "a"), &event.Beacon{App: "w", Release: "1", Session: "s", Seq: 2, Received: 1000, Sent: 990,
		Events: []event.One{{Kind: event.Metric, Name: "m", Time: 998, Value: 5, HasVal: true}}})
	msg := g.Seal()
	want := "01" + "000161" + "000177" + "000131" + "000000" + "0173" + "00" + "00" + "02" + "d00f" + "13" + "00" +
		"0404040404040404" + "01" + "0a03" + "00016d" + "030a" + "00"
	if got := fmt.Sprintf("%x", msg[:len(msg)-groupTrailer]); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestPacked has groups below and above the size from which they are packed,
// and one that nothing can be taken from.
func TestPacked(t *testing.T) {
	noise := make([]byte, 1<<14)
	for i, r := 0, rand.New(rand.NewPCG(5, 6)); i < len(noise); i++ {
		noise[i] = byte(r.Uint32())
	}
	one := typical(10)
	for name, c := range map[string]struct {
		beacons []*event.Beacon
		version byte
	}{
		"small":  {[]*event.Beacon{{App: "a", Release: "r"}}, plainVersion},
		"large":  {slices.Repeat([]*event.Beacon{one}, 100), packedVersion},
		"random": {[]*event.Beacon{{App: "a", Release: "r", Session: string(noise)}}, plainVersion},
		"huge":   {slices.Repeat([]*event.Beacon{{App: "a", Release: "r", Session: string(noise)}}, maxPacked/len(noise)), plainVersion},
	} {
		var g Group
		for _, b := range c.beacons {
			g.Add(mustID(t, "acme"), b)
		}
		size := g.Size()
		msg := g.Seal()
		if msg[0] != c.version || len(msg) > size+groupTrailer {
			t.Errorf("%s: version %d in %d bytes, want %d in %d at most", name, msg[0], len(msg), c.version, size+groupTrailer)
		}
		n := 0
		err := ReadGroup(msg, func(_ tenant.ID, b *event.Beacon) error {
			if want := c.beacons[n]; b.Session != want.Session || len(b.Events) != len(want.Events) {
				t.Errorf("%s: beacon %d is not what was written", name, n)
			}
			n++
			return nil
		})
		if err != nil || n != len(c.beacons) {
			t.Errorf("%s: %d of %d beacons, %v", name, n, len(c.beacons), err)
		}
	}
}

// TestUnpackIsBounded has a block that says of itself what no writer would.
func TestUnpackIsBounded(t *testing.T) {
	msg := checksummed(append(binary.AppendUvarint([]byte{packedVersion}, maxPacked+1), "xyz"...))
	if n := allocated(func() {
		if err := ReadGroup(msg, ignore); !errors.Is(err, ErrCorrupt) {
			t.Error(err)
		}
	}); n > 1<<16 {
		t.Errorf("%d bytes allocated", n)
	}
}

// TestRecycle writes a message, plain and packed, into the memory of one before.
func TestRecycle(t *testing.T) {
	b := typical(1)
	var g Group
	for _, c := range []struct {
		beacons int
		version byte
	}{{1, plainVersion}, {20, packedVersion}} {
		seal := func(seq uint32) []byte {
			b.Seq = seq
			for range c.beacons {
				g.Add(mustID(t, "acme"), b)
			}
			return g.Seal()
		}
		first, second := seal(1), seal(2)
		want := slices.Clone(second)
		g.Recycle(first)
		third := seal(2)
		if third[0] != c.version {
			t.Fatalf("version %d, want %d", third[0], c.version)
		}
		if !slices.Equal(third, want) || !slices.Equal(second, want) {
			t.Error("a message in used memory differs from one in its own, or has written over another")
		}
		if unsafe.SliceData(third) != unsafe.SliceData(first) {
			t.Error("the memory that was given back is not used")
		}
	}
	g.packed = nil
	g.spare = nil
	for _, version := range []byte{plainVersion, packedVersion} {
		large := make([]byte, 1, 2*maxSpare)
		large[0] = version
		g.Recycle(large)
		if g.spare != nil || g.packed != nil {
			t.Errorf("version %d: %d and %d bytes are kept, want at most %d", version, cap(g.spare), cap(g.packed), maxSpare)
		}
	}
}
