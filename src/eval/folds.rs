//! Parts a set so that no group is on two sides, with the classes as even as groups allow.

use std::collections::BTreeMap;

/// Parts `members` (indices into `group` and `class`) into at most `count` folds, fewer if there are fewer
/// groups. No group is in two folds; within a fold members keep their order.
///
/// Greedy, as scikit-learn's `StratifiedGroupKFold`: the largest group first (of equals the lower number), each
/// into the fold where it leaves the classes most even, of equals the emptier. Nothing is drawn by chance.
#[must_use]
pub fn by_group(members: &[usize], group: &[usize], class: &[usize], count: usize) -> Vec<Vec<usize>> {
    let classes = members.iter().map(|index| class[*index] + 1).max().unwrap_or(0);
    let mut counts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut totals = vec![0_usize; classes];
    for index in members {
        counts.entry(group[*index]).or_insert_with(|| vec![0; classes])[class[*index]] += 1;
        totals[class[*index]] += 1;
    }
    let count = count.min(counts.len());
    let mut filled = vec![vec![0_usize; classes]; count];
    let mut fold_of = BTreeMap::new();
    let mut groups: Vec<(usize, Vec<usize>)> = counts.into_iter().collect();
    groups.sort_by_key(|(_, sizes)| std::cmp::Reverse(sizes.iter().sum::<usize>()));
    for (name, sizes) in groups {
        // Growth of the sum of squared shares: smallest where the group's classes are rarest.
        let growth = |fold: &Vec<usize>| -> f64 {
            let each = fold.iter().zip(&sizes).zip(&totals).filter(|(_, total)| **total > 0);
            each.map(|((has, more), total)| (more * (2 * has + more)) as f64 / (total * total) as f64).sum()
        };
        let size = |fold: &Vec<usize>| fold.iter().sum::<usize>();
        let best = (0..count).min_by(|a, b| {
            let (a, b) = (&filled[*a], &filled[*b]);
            growth(a).total_cmp(&growth(b)).then(size(a).cmp(&size(b)))
        });
        let Some(best) = best else { continue };
        filled[best].iter_mut().zip(&sizes).for_each(|(has, more)| *has += more);
        fold_of.insert(name, best);
    }
    let mut folds = vec![Vec::new(); count];
    members.iter().for_each(|index| folds[fold_of[&group[*index]]].push(*index));
    folds
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn groups_stay_whole_and_everyone_is_in_one_fold() {
        // 30 segments in 10 groups of three, classes going round.
        let group: Vec<usize> = (0..30).map(|index| index / 3).collect();
        let class: Vec<usize> = (0..30).map(|index| index % 2).collect();
        let members: Vec<usize> = (0..30).filter(|index| index % 7 != 0).collect();
        let folds = by_group(&members, &group, &class, 4);
        assert_eq!(folds.len(), 4);
        let mut all: Vec<usize> = folds.concat();
        all.sort_unstable();
        assert_eq!(all, members);
        let groups = |fold: &Vec<usize>| fold.iter().map(|index| group[*index]).collect::<BTreeSet<_>>();
        for (at, fold) in folds.iter().enumerate() {
            assert!(folds[..at].iter().all(|other| groups(other).is_disjoint(&groups(fold))));
        }
    }

    #[test]
    fn classes_are_spread_where_groups_are_of_one_class() {
        // Two segments a group; in turn to the emptier fold, all of class 1 would be on one side.
        let group: Vec<usize> = (0..12).map(|index| index / 2).collect();
        let class: Vec<usize> = (0..12).map(|index| [0, 1, 0, 1, 0, 0][index / 2]).collect();
        for fold in by_group(&(0..12).collect::<Vec<_>>(), &group, &class, 2) {
            let ones = fold.iter().filter(|index| class[**index] == 1).count();
            assert_eq!((fold.len(), ones), (6, 2), "{fold:?}");
        }
    }

    #[test]
    fn fewer_groups_than_folds_give_a_fold_a_group() {
        assert_eq!(by_group(&[0, 1, 2], &[7, 7, 8], &[0, 1, 0], 5), [vec![0, 1], vec![2]]);
        assert!(by_group(&[], &[], &[], 3).is_empty());
    }
}
