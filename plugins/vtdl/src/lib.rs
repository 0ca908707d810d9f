//! VTDL: learns to tell moments of one video apart (temporal-discriminative learning, arXiv 2008.02129).
