package batch

// What follows shows the columns as they are held, for writers that make use of
// it: what is the beacon's is there once for a beacon. None of it may be changed.

// Runs returns the number of rows of each beacon, in the order of the rows,
// appended to dst.
func (b *Batch) Runs(dst []int32) []int32 {
	from := len(dst)
	dst = append(dst, make([]int32, len(b.position))...)
	for _, at := range b.beacon {
		dst[from+int(at)]++
	}
	return dst
}

// Words returns the distinct texts of a dictionary column, by code.
func (b *Batch) Words(c Column) []string { return b.dicts[c].values }

// Codes returns the codes of a dictionary column, of each row where byRow is
// true, else of each beacon.
func (b *Batch) Codes(c Column) (codes []uint32, byRow bool) {
	return b.dicts[c].codes, perEvent[c]
}

// Longs returns the values of a column of 64-bit integers, of each row where
// byRow is true, else of each beacon; nil for another column.
func (b *Batch) Longs(c Column) (values []int64, byRow bool) {
	switch c {
	case Position:
		return b.position, false
	case Seq:
		return b.seq, false
	case Received:
		return b.received, false
	case Time:
		return b.time, true
	}
	return nil, false
}

// Ints returns the values of a column of 32-bit integers, as Longs does.
func (b *Batch) Ints(c Column) (values []int32, byRow bool) {
	switch c {
	case Ordinal:
		return b.ordinal, false
	case Index:
		return b.index, true
	}
	return nil, false
}

// Doubles returns the column Value by row, and the bitmap of rows that have one.
func (b *Batch) Doubles() (values []float64, valid []byte) { return b.value, b.valid }
