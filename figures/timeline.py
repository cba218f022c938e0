"""The winners' errors by year, and the human level: the numbers of `papers/winners.py`."""

from figures import style
from papers.winners import HUMAN, WINNERS


def make(out):
    """Draw the top-5 test error of each year's winner of ImageNet's classification contest, 2010 to 2017.

    Args:
      out: path of the figure.
    """
    years = [winner.year for winner in WINNERS]
    colors = [style.BLUE if winner.convolutional else style.ORANGE for winner in WINNERS]
    with style.look():
        figure = style.figure(13, 7)
        axes = figure.add_subplot()
        axes.bar(years, [float(winner.top5) for winner in WINNERS], 0.7, color=colors)
        for winner in WINNERS:
            inside, top = winner.top5 < HUMAN.top5, float(winner.top5)  # above its bar it would overlap the line
            place = {'y': top - 0.3, 'va': 'top'} if inside else {'y': top + 0.3, 'va': 'bottom'}
            color = 'white' if inside else 'black'
            axes.text(winner.year, s=str(winner.top5), ha='center', fontsize=15, color=color, **place)
        human = float(HUMAN.top5)
        axes.axhline(human, color=style.BLACK, linestyle='--')
        label = f'human level: {HUMAN.top5}, {HUMAN.entry}\n({HUMAN.table})'
        axes.text(years[-1] + 0.4, human + 0.3, label, ha='right', va='bottom')
        axes.set_xticks(years, [f'{winner.year}\n{winner.entry}' for winner in WINNERS])
        axes.set_ylabel('top-5 error, %')
        axes.set_ylim(0, 31)
        for color, label in ((style.ORANGE, 'hand-crafted features'), (style.BLUE, 'convolutional networks')):
            axes.bar([years[0]], [0], color=color, label=label)
        axes.legend(frameon=False)
        figure.suptitle("ImageNet's classification contest: the winners' error on its test images, without other data")
        style.save(figure, out)
