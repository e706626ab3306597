// Package batch is where events become columns. It holds the two forms that
// events take in the store: the [Group], a journal message of compact rows that
// closes within milliseconds, and the [Batch], an Arrow record batch of the
// events of one tenant, app and release, with dictionary columns for whatever
// repeats. The Arrow schema is event schema version 1 (docs/formats/batch.md).
//
// Dictionaries are our own maps over wrapped Arrow buffers, not Arrow's
// dictionary builder: five times the rows per second, and a few hundred
// allocations a batch instead of one per row.
package batch

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"serin.dev/serin/internal/event"
	"serin.dev/serin/internal/tenant"
)

// Partition is what one batch holds the events of.
type Partition struct {
	Tenant  tenant.ID
	App     string
	Release event.Release
}

// Column numbers a column of the schema.
type Column int

// The dictionary columns come first, then the plain ones.
const (
	Tenant Column = iota
	App
	Release
	Tenancy
	Arms // canonical text, see [ArmsText]
	SDK
	Platform
	OS
	Browser
	Device
	Network
	Country
	Page
	Env
	Kind
	Name
	Unit
	Attrs // canonical text, see [AttrsText]
	Message
	Stack
	Session
	User
	Prefix
	dictColumns // how many dictionary columns there are

	Position Column = iota - 1 // journal position of the message
	Ordinal                    // number of the beacon within the message
	Seq                        // the beacon's sequence number within its session
	Index                      // number of the event within its beacon
	Time                       // Unix ms
	Received                   // Unix ms
	Value                      // null where the event has none
	columns
)

var dictType = &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Uint32, ValueType: arrow.BinaryTypes.String}

// Schema is event schema version 1, in the order of [Column].
var Schema = func() *arrow.Schema {
	names := []string{"tenant", "app", "release", "tenancy", "arms", "sdk", "platform", "os", "browser", "device",
		"network", "country", "page", "env", "kind", "name", "unit", "attrs", "message", "stack", "session", "user", "prefix"}
	var fields []arrow.Field
	for _, n := range names {
		fields = append(fields, arrow.Field{Name: n, Type: dictType})
	}
	for _, f := range []arrow.Field{
		{Name: "position", Type: arrow.PrimitiveTypes.Int64},
		{Name: "ordinal", Type: arrow.PrimitiveTypes.Int32},
		{Name: "seq", Type: arrow.PrimitiveTypes.Int64},
		{Name: "index", Type: arrow.PrimitiveTypes.Int32},
		{Name: "time_ms", Type: arrow.PrimitiveTypes.Int64},
		{Name: "received_ms", Type: arrow.PrimitiveTypes.Int64},
		{Name: "value", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	} {
		fields = append(fields, f)
	}
	meta := arrow.NewMetadata([]string{"serin.schema"}, []string{strconv.Itoa(event.SchemaVersion)})
	return arrow.NewSchema(fields, &meta)
}()

// perEvent are the dictionary columns that differ from event to event; the
// others are the beacon's.
var perEvent = [dictColumns]bool{Kind: true, Name: true, Unit: true, Attrs: true, Message: true, Stack: true}

// Batch holds the events of one partition as columns. Build it with
// [Batch.Append] or [FromRecord], read it with its accessors or as an Arrow
// record. It is not safe for concurrent use.
//
// What the events of a beacon have in common is held once for the beacon, and
// written out for each row only in the record: two thirds of a row's bytes.
type Batch struct {
	Partition
	dicts [dictColumns]dict // codes by row where perEvent, else by beacon
	// By beacon.
	position []int64
	ordinal  []int32
	seq      []int64
	received []int64
	// By row.
	beacon []int32 // index of the row's beacon
	index  []int32
	time   []int64
	value  []float64
	valid  []byte // bitmap of value

	kinds   []event.Kind // of the codes of the column Kind, as far as they were asked for
	attrs   attrsMemo
	scratch []byte
}

// New returns an empty batch of a partition.
func New(p Partition) *Batch {
	b := &Batch{Partition: p}
	for i := range b.dicts {
		b.dicts[i].index = map[string]uint32{}
	}
	return b
}

// Reset empties the batch and keeps its memory, whose size is that of the rows
// that it has had. No record of it may live.
func (b *Batch) Reset() {
	for i := range b.dicts {
		b.dicts[i].reset()
	}
	b.position, b.ordinal, b.seq, b.received = b.position[:0], b.ordinal[:0], b.seq[:0], b.received[:0]
	b.beacon, b.index, b.time, b.value, b.valid = b.beacon[:0], b.index[:0], b.time[:0], b.value[:0], b.valid[:0]
	b.kinds = b.kinds[:0]
	clear(b.attrs.near)
}

// Append adds the rows of one beacon of the partition: one for each event, one of kind drop for
// each cause in its drops, and one of kind session named "beat" where it has
// neither, so that each accepted beacon has a row. position is that of the
// journal message, ordinal the beacon's number within it.
func (b *Batch) Append(position uint64, ordinal int, bc *event.Beacon) {
	b.head(position, ordinal, bc)
	n := 0
	for i := range bc.Events {
		b.row(n, &bc.Events[i])
		n++
	}
	for i := range bc.Drops {
		d := &bc.Drops[i]
		b.row(n, &event.One{Kind: event.Drop, Name: d.Cause, Time: bc.Received, Value: float64(d.Count), HasVal: true})
		n++
	}
	if n == 0 {
		b.row(0, &event.One{Kind: event.Session, Name: "beat", Time: bc.Received})
	}
}

// head appends what the rows of a beacon have in common.
func (b *Batch) head(position uint64, ordinal int, bc *event.Beacon) {
	if len(b.position) == cap(b.position) {
		b.grow(false)
	}
	c := &bc.Ctx
	for _, f := range [...]struct {
		col  Column
		text string
	}{
		{Tenant, b.Partition.Tenant.String()}, {App, b.Partition.App}, {Release, string(b.Partition.Release)}, {Tenancy, bc.Tenancy.String()},
		{SDK, bc.SDK}, {Platform, c.Platform}, {OS, c.OS}, {Browser, c.Browser}, {Device, c.Device}, {Network, c.Network},
		{Country, c.Country}, {Page, c.Page}, {Env, c.Env}, {Session, bc.Session}, {User, bc.User}, {Prefix, c.Prefix},
	} {
		b.dicts[f.col].append(f.text)
	}
	arms := &b.dicts[Arms]
	arms.codes = append(arms.codes, arms.arms(bc.Arms))
	b.position = append(b.position, int64(position))
	b.ordinal = append(b.ordinal, int32(ordinal))
	b.seq = append(b.seq, int64(bc.Seq))
	b.received = append(b.received, bc.Received)
}

// leastRows is how many rows there is room for at first.
const leastRows = 64

// grow makes room for twice as many rows, or beacons. To append lets large columns grow by a
// quarter: what they leave behind is four times what they hold at last, and was a fifth of
// all garbage.
func (b *Batch) grow(rows bool) {
	for i := range b.dicts {
		if perEvent[i] == rows {
			b.dicts[i].codes = double(b.dicts[i].codes)
		}
	}
	if rows {
		b.beacon, b.index, b.time, b.value, b.valid = double(b.beacon), double(b.index), double(b.time), double(b.value), double(b.valid)
		return
	}
	b.position, b.ordinal, b.seq, b.received = double(b.position), double(b.ordinal), double(b.seq), double(b.received)
}

// double returns s with room for twice as many.
func double[T any](s []T) []T {
	if n := max(2*len(s), leastRows); cap(s) < n {
		return append(make([]T, 0, n), s...)
	}
	return s
}

// arms returns the code of a set of arms. One arm is what most sessions are on,
// and its text needs no sorting.
func (d *dict) arms(arms []event.Arm) uint32 {
	if len(arms) != 1 {
		return d.of(ArmsText(arms))
	}
	var scratch [2 * event.MaxName]byte
	t := appendEscaped(scratch[:0], arms[0].Change)
	t = append(t, '=')
	return d.ofBytes(appendEscaped(t, arms[0].Variant))
}

// row appends an event of the newest beacon.
func (b *Batch) row(index int, e *event.One) {
	if len(b.time) == cap(b.time) {
		b.grow(true)
	}
	b.beacon = append(b.beacon, int32(len(b.position)-1))
	b.index = append(b.index, int32(index))
	b.dicts[Kind].append(e.Kind.String())
	b.dicts[Name].append(e.Name)
	b.dicts[Unit].append(e.Unit)
	b.dicts[Message].append(e.Message)
	b.dicts[Stack].append(e.Stack)
	attrs := &b.dicts[Attrs]
	near := b.attrs.at(e.Attrs)
	if near == nil || !near.holds(e.Attrs) {
		b.scratch = appendAttrs(b.scratch[:0], e.Attrs)
		near.note(e.Attrs, attrs.ofBytes(b.scratch))
		attrs.codes = append(attrs.codes, attrs.code)
	} else {
		attrs.codes = append(attrs.codes, near.code)
	}
	n := len(b.time)
	b.time = append(b.time, e.Time)
	if n%8 == 0 {
		b.valid = append(b.valid, 0)
	}
	value := 0. // what a null holds, so that equal events are equal bytes
	if e.HasVal {
		value = e.Value
		b.valid[n/8] |= 1 << (n % 8)
	}
	b.value = append(b.value, value)
}

// Len returns the number of rows.
func (b *Batch) Len() int { return len(b.time) }

// Text returns a dictionary column's text in a row.
func (b *Batch) Text(c Column, row int) string {
	d := &b.dicts[c]
	return d.values[b.Code(c, row)]
}

// Code returns a dictionary column's code in a row; equal codes are equal texts.
func (b *Batch) Code(c Column, row int) uint32 {
	if !perEvent[c] {
		row = int(b.beacon[row])
	}
	return b.dicts[c].codes[row]
}

// Kind returns the kind of the event in a row.
func (b *Batch) Kind(row int) event.Kind {
	d := &b.dicts[Kind]
	for code := len(b.kinds); code < len(d.values); code++ {
		k, _ := event.ParseKind([]byte(d.values[code]))
		b.kinds = append(b.kinds, k)
	}
	return b.kinds[d.codes[row]]
}

// HasAttr reports whether the event in a row has an attribute with a key and a
// text, neither of which may need escaping, as [AttrsText] does it.
func (b *Batch) HasAttr(row int, key, text string) bool {
	attrs := b.Text(Attrs, row)
	for len(attrs) > len(key) {
		one, rest, _ := strings.Cut(attrs, ";")
		if len(one) == len(key)+1+len(text) && one[:len(key)] == key && one[len(key)] == '=' && one[len(key)+1:] == text {
			return true
		}
		attrs = rest
	}
	return false
}

// Position returns the journal position of a row.
func (b *Batch) Position(row int) uint64 { return uint64(b.position[b.beacon[row]]) }

// Ordinal returns the number of a row's beacon within its message.
func (b *Batch) Ordinal(row int) int { return int(b.ordinal[b.beacon[row]]) }

// Seq returns the sequence number of a row's beacon.
func (b *Batch) Seq(row int) uint32 { return uint32(b.seq[b.beacon[row]]) }

// Index returns the number of a row's event within its beacon.
func (b *Batch) Index(row int) int { return int(b.index[row]) }

// Time returns the event time of a row in Unix ms.
func (b *Batch) Time(row int) int64 { return b.time[row] }

// Received returns when the server received a row, in Unix ms.
func (b *Batch) Received(row int) int64 { return b.received[b.beacon[row]] }

// Value returns the value of a row and whether it has one; 0 if not.
func (b *Batch) Value(row int) (float64, bool) {
	return b.value[row], b.valid[row/8]&(1<<(row%8)) != 0
}

// Record returns the rows as an Arrow record that shares the batch's memory
// where it can: the batch must not be appended to while the record lives. The
// caller releases it.
func (b *Batch) Record() arrow.Record {
	n := b.Len()
	cols := make([]arrow.Array, 0, int(columns))
	add := func(dt arrow.DataType, bufs []*memory.Buffer, nulls int) {
		data := array.NewData(dt, n, bufs, nil, nulls, 0)
		cols = append(cols, array.MakeFromData(data))
		data.Release()
	}
	for i := range b.dicts {
		d := &b.dicts[i]
		codes := d.codes
		if !perEvent[i] {
			codes = spread(b.beacon, codes)
		}
		sb := array.NewStringBuilder(memory.DefaultAllocator)
		sb.AppendValues(d.values, nil)
		values := sb.NewArray()
		sb.Release()
		data := array.NewDataWithDictionary(dictType, n, []*memory.Buffer{nil, wrap(codes)}, 0, 0, values.Data().(*array.Data))
		cols = append(cols, array.NewDictionaryData(data))
		data.Release()
		values.Release()
	}
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(spread(b.beacon, b.position))}, 0)
	add(arrow.PrimitiveTypes.Int32, []*memory.Buffer{nil, wrap(spread(b.beacon, b.ordinal))}, 0)
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(spread(b.beacon, b.seq))}, 0)
	add(arrow.PrimitiveTypes.Int32, []*memory.Buffer{nil, wrap(b.index)}, 0)
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(b.time)}, 0)
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(spread(b.beacon, b.received))}, 0)
	add(arrow.PrimitiveTypes.Float64, []*memory.Buffer{memory.NewBufferBytes(b.valid), wrap(b.value)}, array.UnknownNullCount)
	rec := array.NewRecord(Schema, cols, int64(n))
	for _, c := range cols {
		c.Release()
	}
	return rec
}

// spread writes out for each row what its beacon has.
func spread[T any](beacon []int32, of []T) []T {
	rows := make([]T, len(beacon))
	for i, at := range beacon {
		rows[i] = of[at]
	}
	return rows
}

// wrap shows a slice to Arrow without a copy.
func wrap[T uint32 | int32 | int64 | float64](s []T) *memory.Buffer {
	if len(s) == 0 {
		return memory.NewBufferBytes(nil)
	}
	return memory.NewBufferBytes(unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0]))))
}

// FromRecord copies rows of a record that has the columns of [Schema] by name;
// text columns may be dictionaries (of any index type) or plain strings, as
// Parquet readers give them. All rows must be of one partition.
func FromRecord(rec arrow.Record) (*Batch, error) {
	n := int(rec.NumRows())
	if n == 0 {
		return nil, fmt.Errorf("batch from record: no rows")
	}
	b := New(Partition{})
	column := func(i int) (arrow.Array, error) {
		name := Schema.Field(i).Name
		at := rec.Schema().FieldIndices(name)
		if len(at) != 1 {
			return nil, fmt.Errorf("batch from record: column %s: there are %d, want 1", name, len(at))
		}
		col := rec.Column(at[0])
		if Column(i) != Value && col.NullN() > 0 {
			return nil, fmt.Errorf("batch from record: column %s: %d nulls, want none", name, col.NullN())
		}
		return col, nil
	}
	wrong := func(i int, col arrow.Array) error {
		return fmt.Errorf("batch from record: column %s: type %s", Schema.Field(i).Name, col.DataType())
	}
	for i := range b.dicts {
		col, err := column(i)
		if err != nil {
			return nil, err
		}
		switch a := col.(type) {
		case *array.String:
			b.dicts[i].copyStrings(a)
		case *array.Dictionary:
			words, ok := a.Dictionary().(*array.String)
			if !ok {
				return nil, wrong(i, col)
			}
			if err := b.dicts[i].copyCodes(a, words); err != nil {
				return nil, fmt.Errorf("batch from record: column %s: %w", Schema.Field(i).Name, err)
			}
		default:
			return nil, wrong(i, col)
		}
	}
	for i := int(dictColumns); i < int(columns); i++ {
		col, err := column(i)
		if err != nil {
			return nil, err
		}
		switch a := col.(type) {
		case *array.Int64:
			dst := map[Column]*[]int64{Position: &b.position, Seq: &b.seq, Time: &b.time, Received: &b.received}[Column(i)]
			if dst == nil {
				return nil, wrong(i, col)
			}
			*dst = append(*dst, a.Int64Values()...)
		case *array.Int32:
			dst := map[Column]*[]int32{Ordinal: &b.ordinal, Index: &b.index}[Column(i)]
			if dst == nil {
				return nil, wrong(i, col)
			}
			*dst = append(*dst, a.Int32Values()...)
		case *array.Float64:
			if Column(i) != Value {
				return nil, wrong(i, col)
			}
			b.valid = make([]byte, (n+7)/8)
			for r := range n {
				if a.IsValid(r) {
					b.valid[r/8] |= 1 << (r % 8)
					b.value = append(b.value, a.Value(r))
				} else {
					b.value = append(b.value, 0)
				}
			}
		default:
			return nil, wrong(i, col)
		}
	}
	b.join(n)
	for _, c := range []Column{Tenant, App, Release} {
		if len(b.dicts[c].values) != 1 {
			return nil, fmt.Errorf("batch from record: column %s: %d values, want one partition", Schema.Field(int(c)).Name, len(b.dicts[c].values))
		}
	}
	id, err := tenant.Stored(b.Text(Tenant, 0))
	if err != nil {
		return nil, fmt.Errorf("batch from record: %w", err)
	}
	b.Partition = Partition{Tenant: id, App: b.Text(App, 0), Release: event.Release(b.Text(Release, 0))}
	return b, nil
}

// join turns the columns of a record, which are all by row, into those of a
// batch: rows that follow each other and are of one beacon share its place.
func (b *Batch) join(n int) {
	b.beacon = make([]int32, n)
	firsts := make([]int, 0, n/4)
	for r := range n {
		if r == 0 || b.position[r] != b.position[r-1] || b.ordinal[r] != b.ordinal[r-1] || !b.same(r, r-1) {
			firsts = append(firsts, r)
		}
		b.beacon[r] = int32(len(firsts) - 1)
	}
	for i := range b.dicts {
		if !perEvent[i] {
			b.dicts[i].codes = gather(firsts, b.dicts[i].codes)
		}
	}
	b.position, b.ordinal = gather(firsts, b.position), gather(firsts, b.ordinal)
	b.seq, b.received = gather(firsts, b.seq), gather(firsts, b.received)
}

// same reports whether two rows have all that a beacon's rows have in common.
func (b *Batch) same(r, q int) bool {
	for i := range b.dicts {
		if codes := b.dicts[i].codes; !perEvent[i] && codes[r] != codes[q] {
			return false
		}
	}
	return b.seq[r] == b.seq[q] && b.received[r] == b.received[q]
}

func gather[T any](firsts []int, of []T) []T {
	out := make([]T, len(firsts))
	for i, r := range firsts {
		out[i] = of[r]
	}
	return out
}
