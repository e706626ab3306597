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
	"math"
	"slices"
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

type dict struct {
	codes  []uint32
	values []string
	index  map[string]uint32
	last   string // most columns repeat the row before: one compare instead of a map look-up
	code   uint32
}

func (d *dict) append(s string) {
	if len(d.codes) == 0 || s != d.last {
		code, ok := d.index[s]
		if !ok {
			code = uint32(len(d.values))
			d.index[s] = code
			d.values = append(d.values, s)
		}
		d.last, d.code = d.values[code], code // s may be in memory that the caller reuses
	}
	d.codes = append(d.codes, d.code)
}

// copyStrings appends a plain column. Only a text that is new is copied.
func (d *dict) copyStrings(a *array.String) {
	for r := range a.Len() {
		s := a.Value(r)
		if _, ok := d.index[s]; !ok {
			s = strings.Clone(s)
		}
		d.append(s)
	}
}

// copyCodes appends a dictionary column. It looks at each word once and at
// codes only from there on; a Parquet reader may give a word twice.
func (d *dict) copyCodes(a *array.Dictionary, words *array.String) error {
	const unseen = math.MaxUint32
	codes := make([]uint32, words.Len())
	for i := range codes {
		codes[i] = unseen
	}
	d.codes = slices.Grow(d.codes, a.Len())
	for r := range a.Len() {
		i := a.GetValueIndex(r)
		if i < 0 || i >= len(codes) {
			return fmt.Errorf("row %d has word %d of %d", r, i, len(codes))
		}
		if codes[i] == unseen {
			d.append(strings.Clone(words.Value(i)))
			codes[i] = d.codes[len(d.codes)-1]
			continue
		}
		d.codes = append(d.codes, codes[i])
	}
	if n := len(d.codes); n > 0 {
		d.code = d.codes[n-1]
		d.last = d.values[d.code]
	}
	return nil
}

// Batch holds the events of one partition as columns. Build it with
// [Batch.Append] or [FromRecord], read it with its accessors or as an Arrow
// record. It is not safe for concurrent use.
type Batch struct {
	Partition
	dicts    [dictColumns]dict
	position []int64
	ordinal  []int32
	seq      []int64
	index    []int32
	time     []int64
	received []int64
	value    []float64
	valid    []byte // bitmap of value
}

// New returns an empty batch of a partition.
func New(p Partition) *Batch {
	b := &Batch{Partition: p}
	for i := range b.dicts {
		b.dicts[i].index = map[string]uint32{}
	}
	return b
}

// Append adds the rows of one beacon of the partition: one for each event, one of kind drop for
// each cause in its drops, and one of kind session named "beat" where it has
// neither, so that each accepted beacon has a row. position is that of the
// journal message, ordinal the beacon's number within it.
func (b *Batch) Append(position uint64, ordinal int, bc *event.Beacon) {
	arms := ArmsText(bc.Arms)
	if len(bc.Events) == 0 && len(bc.Drops) == 0 {
		b.row(position, ordinal, 0, arms, bc, &event.One{Kind: event.Session, Name: "beat", Time: bc.Received})
		return
	}
	n := 0
	for i := range bc.Events {
		b.row(position, ordinal, n, arms, bc, &bc.Events[i])
		n++
	}
	for i := range bc.Drops {
		d := &bc.Drops[i]
		b.row(position, ordinal, n, arms, bc, &event.One{Kind: event.Drop, Name: d.Cause,
			Time: bc.Received, Value: float64(d.Count), HasVal: true})
		n++
	}
}

func (b *Batch) row(position uint64, ordinal, index int, arms string, bc *event.Beacon, e *event.One) {
	c := &bc.Ctx
	for i, s := range [dictColumns]string{
		Tenant: b.Partition.Tenant.String(), App: b.Partition.App, Release: string(b.Partition.Release), Tenancy: bc.Tenancy.String(), Arms: arms,
		SDK: bc.SDK, Platform: c.Platform, OS: c.OS, Browser: c.Browser, Device: c.Device, Network: c.Network,
		Country: c.Country, Page: c.Page, Env: c.Env, Kind: e.Kind.String(), Name: e.Name, Unit: e.Unit,
		Attrs: AttrsText(e.Attrs), Message: e.Message, Stack: e.Stack, Session: bc.Session, User: bc.User,
		Prefix: c.Prefix,
	} {
		b.dicts[i].append(s)
	}
	n := len(b.position)
	b.position = append(b.position, int64(position))
	b.ordinal = append(b.ordinal, int32(ordinal))
	b.seq = append(b.seq, int64(bc.Seq))
	b.index = append(b.index, int32(index))
	b.time = append(b.time, e.Time)
	b.received = append(b.received, bc.Received)
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
func (b *Batch) Len() int { return len(b.position) }

// Text returns a dictionary column's text in a row.
func (b *Batch) Text(c Column, row int) string {
	d := &b.dicts[c]
	return d.values[d.codes[row]]
}

// Code returns a dictionary column's code in a row; equal codes are equal texts.
func (b *Batch) Code(c Column, row int) uint32 { return b.dicts[c].codes[row] }

// Kind returns the kind of the event in a row.
func (b *Batch) Kind(row int) event.Kind {
	k, _ := event.ParseKind([]byte(b.Text(Kind, row)))
	return k
}

// Position returns the journal position of a row.
func (b *Batch) Position(row int) uint64 { return uint64(b.position[row]) }

// Ordinal returns the number of a row's beacon within its message.
func (b *Batch) Ordinal(row int) int { return int(b.ordinal[row]) }

// Seq returns the sequence number of a row's beacon.
func (b *Batch) Seq(row int) uint32 { return uint32(b.seq[row]) }

// Index returns the number of a row's event within its beacon.
func (b *Batch) Index(row int) int { return int(b.index[row]) }

// Time returns the event time of a row in Unix ms.
func (b *Batch) Time(row int) int64 { return b.time[row] }

// Received returns when the server received a row, in Unix ms.
func (b *Batch) Received(row int) int64 { return b.received[row] }

// Value returns the value of a row and whether it has one; 0 if not.
func (b *Batch) Value(row int) (float64, bool) {
	return b.value[row], b.valid[row/8]&(1<<(row%8)) != 0
}

// Record returns the rows as an Arrow record that shares the batch's memory:
// the batch must not be appended to while the record lives. The caller
// releases it.
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
		sb := array.NewStringBuilder(memory.DefaultAllocator)
		sb.AppendValues(d.values, nil)
		values := sb.NewArray()
		sb.Release()
		data := array.NewDataWithDictionary(dictType, n, []*memory.Buffer{nil, wrap(d.codes)}, 0, 0, values.Data().(*array.Data))
		cols = append(cols, array.NewDictionaryData(data))
		data.Release()
		values.Release()
	}
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(b.position)}, 0)
	add(arrow.PrimitiveTypes.Int32, []*memory.Buffer{nil, wrap(b.ordinal)}, 0)
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(b.seq)}, 0)
	add(arrow.PrimitiveTypes.Int32, []*memory.Buffer{nil, wrap(b.index)}, 0)
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(b.time)}, 0)
	add(arrow.PrimitiveTypes.Int64, []*memory.Buffer{nil, wrap(b.received)}, 0)
	add(arrow.PrimitiveTypes.Float64, []*memory.Buffer{memory.NewBufferBytes(b.valid), wrap(b.value)}, array.UnknownNullCount)
	rec := array.NewRecord(Schema, cols, int64(n))
	for _, c := range cols {
		c.Release()
	}
	return rec
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
